"""The messages between the kernel and the model level's process; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from nbtoolkit.golden.prompts import GoldenPrompt
from nbtoolkit.serving.chat_template import Templates
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.smoke.check import Check
from nbtoolkit.smoke.golden_verdict import PreviousGoldenAnswers
from nbtoolkit.smoke.settings import SmokeSettings


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class ModelTask(_Message):
    """The input of the process; all paths are absolute.

    ``tokenizer_problem`` is why no tokenizer is in force. ``settled`` are the ids of checks to leave out.
    """

    settings: SmokeSettings
    adapter_path: str
    adapter_sha256: str
    base_path: str
    base_sha256: str
    tokenizer_path: str
    chat_template: Templates | None = None
    tokenizer_problem: str = ""
    settled: tuple[str, ...] = ()
    golden: tuple[GoldenPrompt, ...] = ()
    previous: PreviousGoldenAnswers | None = None


class PhaseMessage(_Message):
    """A new phase started, or ``done`` of ``total`` steps of it are finished."""

    kind: Literal["phase"] = "phase"
    text: str
    done: float | None = None
    total: float | None = None


class StartMessage(_Message):
    """A check started; it gets the finding if the process dies."""

    kind: Literal["start"] = "start"
    id: str


class CheckMessage(_Message):
    """A check ended."""

    kind: Literal["check"] = "check"
    check: Check


class FactsMessage(_Message):
    """Device and dtype of the model level; no dtype if the base's configuration cannot be read."""

    kind: Literal["facts"] = "facts"
    device: str
    dtype: str | None


class FingerprintMessage(_Message):
    """The adapter's fingerprint."""

    kind: Literal["fingerprint"] = "fingerprint"
    fingerprint: Fingerprint


class ProblemMessage(_Message):
    """The process ends because of a known problem."""

    kind: Literal["problem"] = "problem"
    text: str
    next_step: str


class DoneMessage(_Message):
    """The last message; if it is missing, the process died."""

    kind: Literal["done"] = "done"


Message = (
    PhaseMessage
    | StartMessage
    | CheckMessage
    | FactsMessage
    | FingerprintMessage
    | ProblemMessage
    | DoneMessage
)
_MESSAGES: TypeAdapter[Message] = TypeAdapter(Message)


def parse(line: bytes | str) -> Message:
    """Parse one line; raises pydantic's ``ValidationError`` if it is not a message."""
    return _MESSAGES.validate_json(line)
