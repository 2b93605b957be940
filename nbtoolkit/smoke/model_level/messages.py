"""What goes over the pipe between the kernel and the model level's process; imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.smoke.check import Check
from nbtoolkit.smoke.settings import SmokeSettings


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Task(_Message):
    """What to test; all paths are absolute. ``settled`` names checks that need no second look."""

    settings: dict[str, Any]
    adapter_path: str
    adapter_sha256: str
    base_path: str
    base_sha256: str
    tokenizer_path: str
    chat_template: str | None = None
    settled: tuple[str, ...] = ()

    @property
    def smoke(self) -> SmokeSettings:
        """The settings as the workflow got them."""
        return SmokeSettings(**self.settings)


class Phase(_Message):
    """A new phase began, or is ``done`` of ``total`` along."""

    kind: Literal["phase"] = "phase"
    text: str
    done: float | None = None
    total: float | None = None


class Result(_Message):
    """A check ended."""

    kind: Literal["check"] = "check"
    check: Check


class Facts(_Message):
    """On what the model level runs."""

    kind: Literal["facts"] = "facts"
    device: str
    dtype: str


class Found(_Message):
    """The adapter's fingerprint."""

    kind: Literal["fingerprint"] = "fingerprint"
    fingerprint: Fingerprint


class ProblemMessage(_Message):
    """The process cannot go on, and knows why."""

    kind: Literal["problem"] = "problem"
    text: str
    next_step: str


class Done(_Message):
    """Everything was said; without this line the process died."""

    kind: Literal["done"] = "done"


Message = Phase | Result | Facts | Found | ProblemMessage | Done
_MESSAGES: TypeAdapter[Message] = TypeAdapter(Message)


def parse(line: bytes | str) -> Message:
    """Read one line; raises pydantic's ``ValidationError`` for anything else."""
    return _MESSAGES.validate_json(line)
