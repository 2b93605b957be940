"""The errors that nbtoolkit raises.

    NbtoolkitError
    ├── InvalidSettings (ValueError)        a setting, a parameter or the content of a file
    │   └── BrokenFile                      a file that cannot be parsed: path, line and key
    ├── WorkspaceNotFound (FileNotFoundError)
    ├── InvalidAdapter (ValueError)         a folder that is not a servable LoRA adapter
    ├── InvalidBase (ValueError)            a folder that is not a usable base model
    ├── StoreError (OSError)                a file store refused or failed
    │   ├── AlreadyExists (FileExistsError)
    │   └── NotInStore (FileNotFoundError)
    ├── SyncRefused (ValueError)            files that must not or cannot be sent
    ├── ReleaseChanged (RuntimeError)       another deploy published first
    ├── SmokeTestFailed (RuntimeError)      a check failed, or there is no green report for these bytes
    ├── DeployFailed (RuntimeError)         the new release did not become healthy; the old one serves
    ├── NotProven (RuntimeError)            the endpoint is asleep, or its release is not proven
    ├── ServerFailed (RuntimeError)         the server ended or refused to start; with its last log lines
    ├── NotReady (TimeoutError)             the endpoint did not answer in time; with the reason
    ├── RequestRefused (RuntimeError)       the endpoint returned an error
    ├── Busy (RuntimeError)                 another operation holds this workspace and target
    ├── AzureFailed (RuntimeError)          Azure refused or failed a request: status, code, request id
    │   ├── NotSignedIn (PermissionError)   no credential source returns a token for Azure
    │   └── QuotaShort                      fewer GPUs or environments left than are needed
    ├── Blocked (RuntimeError)              blockers found before the first write to Azure
    ├── ProvisionFailed (RuntimeError)      a deployment to Azure failed; with the cause of each resource
    ├── WheelsUnavailable (RuntimeError)    a package of the container cannot be downloaded
    ├── StaleResult (RuntimeError)          values of a form changed since its run
    ├── NotApplied (RuntimeError)           a step that costs money was planned, not run
    ├── MissingDependency (ImportError)     an optional extra is not installed
    └── Cancelled (RuntimeError)            the user cancelled; the message names what still runs

Every error declares its attributes and ends with the next step.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import PurePath
from typing import Any, dataclass_transform


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(field,))
@dataclass(eq=False, repr=False, kw_only=True)
class NbtoolkitError(Exception):
    """State what happened, the cause, and the next step; subclasses declare their attributes as fields."""

    message: str = field(kw_only=False)
    next_step: str

    def __init_subclass__(cls) -> None:
        dataclass(eq=False, repr=False, kw_only=True)(cls)

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the declared attributes by name; ``Exception`` would pass only the message."""
        attributes = {one.name: getattr(self, one.name) for one in fields(self)}
        return partial(type(self), **attributes), (), vars(self)

    def __str__(self) -> str:
        return f"{self.message}\nNext: {self.next_step}"

    def _render_traceback_(self, *_: object) -> list[str]:
        """Show the cause and the next step in a notebook; the full traceback goes to a file."""
        lines = [f"{type(self).__name__}: {self.message}", f"Next: {self.next_step}"]
        try:
            descriptor, path = tempfile.mkstemp(prefix="nbtoolkit-traceback-", suffix=".txt")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(traceback.format_exception(self))
        except OSError:
            return lines  # a full disk must not hide the error itself
        return [*lines, f"Full traceback: {path}"]


class InvalidSettings(NbtoolkitError, ValueError):
    """A setting, a parameter or the content of a file is not valid; ``problems`` lists what is wrong."""

    problems: Collection[Any] = ()


class BrokenFile(InvalidSettings):
    """A file cannot be parsed; the message names path, line and key."""

    path: PurePath | str
    problem: str = ""
    line: int | None = None
    column: int | None = None
    key: str | None = None


class WorkspaceNotFound(NbtoolkitError, FileNotFoundError):
    """Neither the ``start`` folder nor a folder above it is a workspace."""

    start: PurePath


class InvalidAdapter(NbtoolkitError, ValueError):
    """A folder is not a servable LoRA adapter; ``check`` is the id of the smoke test's check."""

    path: PurePath | None = None
    check: str = ""
    problem: str = ""


class InvalidBase(NbtoolkitError, ValueError):
    """A folder is not a usable base model."""

    path: PurePath | None = None


class StoreError(NbtoolkitError, OSError):
    """A file store refused or failed; ``status`` and ``code`` are the service's, None without an answer."""

    path: PurePath | str | None = None
    status: int | None = None
    code: str | None = None


class AlreadyExists(StoreError, FileExistsError):
    """The name is taken and overwriting was not requested."""


class NotInStore(StoreError, FileNotFoundError):
    """The store has no such file."""


class SyncRefused(NbtoolkitError, ValueError):
    """Some files must not or cannot be sent; none was sent; ``problems`` pairs name and reason."""

    problems: Sequence[tuple[str, str]] = ()


class ReleaseChanged(NbtoolkitError, RuntimeError):
    """Another deploy published pointer ``n`` to ``release`` first; ``by`` names its author."""

    by: str
    release: str
    n: int


class SmokeTestFailed(NbtoolkitError, RuntimeError):
    """A check failed, or there is no green report for these bytes.

    ``returncode`` and ``phase`` are those of a test process that ended early.
    """

    report: Any = None
    checks: Sequence[Any] = ()
    problems: Sequence[str] = ()
    returncode: int | None = None
    phase: str | None = None


class DeployFailed(NbtoolkitError, RuntimeError):
    """The new release did not become healthy and the old one serves again."""

    release: str = ""
    reason: str = ""
    log: Sequence[str] = ()


class NotProven(NbtoolkitError, RuntimeError):
    """The endpoint is not proven to serve its release; ``proof`` has the verdicts, ``state`` the outcome."""

    state: str
    proof: Any = None


class ServerFailed(NbtoolkitError, RuntimeError):
    """The server ended or did not start; the message contains its last log lines."""

    reason: str = ""
    exit_code: int | None = None
    log: Sequence[str] = ()


class NotReady(NbtoolkitError, TimeoutError):
    """The endpoint did not become ready in time; the message contains the reason.

    ``lasting`` is True if waiting does not change the reason, None if that is unknown.
    """

    reason: str = ""
    lasting: bool | None = None


class RequestRefused(NbtoolkitError, RuntimeError):
    """The endpoint returned an error; ``retry_after`` is in seconds."""

    status: int | None = None
    code: str | None = None
    retry_after: float | None = None


class Busy(NbtoolkitError, RuntimeError):
    """Another operation, ``step``, holds this workspace and target; ``since`` is an ISO time."""

    step: str = ""
    target: str = ""
    pid: int | None = None
    since: str | None = None


class AzureFailed(NbtoolkitError, RuntimeError):
    """Azure refused or failed a request.

    ``status`` is None if no answer came. Each of ``causes`` has a message and a next step.
    """

    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    causes: Sequence[Any] = ()


class NotSignedIn(AzureFailed, PermissionError):
    """No credential source returns a token for Azure; ``reasons`` maps each source's name to its reason."""

    reasons: Mapping[str, str] = field(default_factory=dict)


class QuotaShort(AzureFailed):
    """Azure has fewer GPUs or environments left for this subscription and region than are needed."""


class Blocked(NbtoolkitError, RuntimeError):
    """``blockers`` must be resolved before anything is written to Azure."""

    blockers: Sequence[str]


class ProvisionFailed(NbtoolkitError, RuntimeError):
    """A deployment to Azure failed; ``causes`` has the cause and next step of each resource."""

    causes: Sequence[Any] = ()
    portal_url: str = ""


class WheelsUnavailable(NbtoolkitError, RuntimeError):
    """A locked package of the container cannot be downloaded; ``output`` is pip's."""

    output: str = ""
    files: Sequence[str] = ()


class StaleResult(NbtoolkitError, RuntimeError):
    """``fields`` of a form changed since the run whose result was requested."""

    fields: Sequence[str]


class NotApplied(NbtoolkitError, RuntimeError):
    """A step that costs money was planned and not run; ``plan`` is the plan."""

    plan: Any


class MissingDependency(NbtoolkitError, ImportError):
    """An optional extra is not installed; ``package`` cannot be imported."""

    package: str


class Cancelled(NbtoolkitError, RuntimeError):
    """The user cancelled; the message names what still runs."""

    phase: str = ""
    running: Sequence[str] = ()
    release: str = ""
