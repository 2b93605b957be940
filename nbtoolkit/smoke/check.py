"""The result of a check, the registry of check functions, and the adapter that they check.

Adding a check means adding one function to the module of its level::

    @check("A5", "static", "vocabulary, template")
    def vocabulary(context: SmokeContext) -> CheckOutcome: ...
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from nbtoolkit.errors import BrokenFile, Cancelled, InvalidAdapter, NbtoolkitError
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.smoke.settings import Level, SmokeSettings
from nbtoolkit.utils.json_file import read_object

Verdict = Literal["pass", "warn", "fail", "skipped", "undecided"]


def _json_safe(value: Any) -> Any:
    """Convert NaN, infinities, tuples, sets and integer keys to values that JSON has."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _json_safe(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_json_safe(one) for one in value]
    return value


class Check(BaseModel):
    """The result of one check at one level.

    ``evidence`` holds what the check measured, as plain JSON; ``remedy`` is the next step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    level: Level
    title: str
    verdict: Verdict
    summary: str
    evidence: Annotated[dict[str, Any], BeforeValidator(_json_safe)] = {}
    remedy: str = ""
    recommended: dict[str, Any] = {}
    """Setting → value that the remedy names, for :attr:`SmokeReport.recommended_settings`."""
    seconds: float = 0.0


@dataclass(frozen=True)
class CheckOutcome:
    """The return value of a check function; the registry adds id, level, title and duration."""

    verdict: Verdict
    summary: str
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    remedy: str = ""
    recommended: Mapping[str, Any] = field(default_factory=dict[str, Any])


passed = partial(CheckOutcome, "pass")
warning = partial(CheckOutcome, "warn")
failure = partial(CheckOutcome, "fail")

Context = TypeVar("Context")


@dataclass(frozen=True)
class CheckFunction(Generic[Context]):
    """A registered check."""

    id: str
    level: Level
    title: str
    run: Callable[[Context], CheckOutcome]

    def __call__(self, context: Context) -> Check:
        """Run and time the check; raises what the check function raises."""
        start = time.monotonic()
        outcome = self.run(context)
        return self.result(outcome, time.monotonic() - start)

    def run_safely(self, context: Context, *raised: type[Exception]) -> Check:
        """Run the check; an exception is a failed finding. Raises ``Cancelled`` and ``raised``."""
        try:
            return self(context)
        except (Cancelled, *raised):
            raise
        except Exception as error:  # noqa: BLE001  a report is never lost
            return self.result(exception_finding(error))

    def result(self, outcome: CheckOutcome, seconds: float = 0.0) -> Check:
        """Return an outcome as this check's result."""
        facts: dict[str, Any] = {"id": self.id, "level": self.level, "title": self.title, **vars(outcome)}
        return Check(**facts, seconds=round(seconds, 4))

    def skipped(self, reason: str) -> Check:
        """Return this check as not run, with the reason."""
        return self.result(CheckOutcome("skipped", f"skipped: {reason}"))


REGISTRY: list[CheckFunction[Any]] = []
"""Every check of the imported modules, in the order of definition."""


def check(
    id: str, level: Level, title: str
) -> Callable[[Callable[[Context], CheckOutcome]], CheckFunction[Context]]:
    """Register a function as the check ``id`` of ``level``."""

    def register(function: Callable[[Context], CheckOutcome]) -> CheckFunction[Context]:
        registered = CheckFunction(id, level, title, function)
        REGISTRY.append(registered)
        return registered

    return register


def registered_checks(level: Level) -> list[CheckFunction[Any]]:
    """Return the registered checks of a level, sorted by id."""
    return sorted(
        (one for one in REGISTRY if one.level == level), key=lambda one: (one.id[0], int(one.id[1:]))
    )


@dataclass(frozen=True)
class SmokeContext:
    """The adapter folder, its base and the settings: the argument of the static checks."""

    folder: Path
    base: Base
    settings: SmokeSettings
    prompts: tuple[str, ...] = ()
    """The user's own prompts: those of the settings and the golden prompts."""

    @cached_property
    def read_result(self) -> Adapter | InvalidAdapter:
        """The adapter, or the error of reading it."""
        try:
            return Adapter.read(self.folder)
        except InvalidAdapter as error:
            return error

    @property
    def adapter(self) -> Adapter:
        """The adapter; raises :class:`InvalidAdapter`, which check A1 reports, if it cannot be read."""
        if isinstance(self.read_result, InvalidAdapter):
            raise self.read_result
        return self.read_result

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """The content of ``adapter_config.json``; None if it is not a JSON object, which A1 reports."""
        try:
            return read_object(self.folder / "adapter_config.json")
        except BrokenFile:
            return None


def exception_finding(error: BaseException) -> CheckOutcome:
    """Return the failed finding for an exception: with its own next step, or else with its traceback."""
    if isinstance(error, NbtoolkitError):
        return failure(error.message, remedy=error.next_step)
    cause = next(iter(str(error).strip().splitlines()), "")
    return failure(
        f"{type(error).__name__}: {cause}" if cause else type(error).__name__,
        {"traceback": traceback.format_exception(error)[-12:]},
        "see the message; if it names no cause, report it with this check's evidence",
    )


def abbreviate(items: list[str], keep: int = 8) -> str:
    """Return the first names as one text, and the number of the others."""
    rest = len(items) - keep
    return ", ".join(items[:keep]) + (f" and {rest} more" if rest > 0 else "")
