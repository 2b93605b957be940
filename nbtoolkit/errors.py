"""The errors that nbtoolkit raises.

    NbtoolkitError
    ├── InvalidSettings (ValueError)        a setting, a parameter or a file's content
    │   └── BrokenFile                      a file that cannot be parsed: file, line and key
    ├── WorkspaceNotFound (FileNotFoundError)
    ├── InvalidAdapter (ValueError)         a folder that is no servable LoRA adapter
    ├── InvalidBase (ValueError)            a folder that is no usable base model
    ├── StoreError (OSError)                a file store said no
    │   ├── AlreadyExists (FileExistsError)
    │   └── NotInStore (FileNotFoundError)
    ├── SyncRefused (ValueError)            files that must not or cannot be sent
    ├── ReleaseChanged (RuntimeError)       another deploy won the race
    ├── SmokeTestFailed (RuntimeError)      a check failed, or no green report for these bytes
    ├── DeployFailed (RuntimeError)         the new release did not become healthy; the old one serves
    ├── NotProven (RuntimeError)            what answers could not be shown to be the adapter
    ├── ServerFailed (RuntimeError)         the server died or refused to start; with its last log lines
    ├── NotReady (TimeoutError)             the endpoint did not answer in time; with the reason
    ├── RequestRefused (RuntimeError)       the endpoint answered with an error
    ├── Busy (RuntimeError)                 another operation holds this workspace and target
    ├── AzureFailed (RuntimeError)          Azure refused or failed a request: status, code, request id
    │   ├── NotSignedIn (PermissionError)   no source gives a token for Azure
    │   └── QuotaShort                      fewer GPUs or environments left than are needed
    ├── Blocked (RuntimeError)              what must be settled before the first write to Azure
    ├── ProvisionFailed (RuntimeError)      a deployment to Azure failed; with each resource's cause
    ├── WheelsUnavailable (RuntimeError)    a package of the container cannot be fetched
    ├── StaleResult (RuntimeError)          a form's values changed since its run
    ├── NotApplied (RuntimeError)           a step that costs money was planned, not run
    ├── MissingDependency (ImportError)     an optional extra is not installed
    └── Cancelled (RuntimeError)            the user cancelled; says what still runs

Every error keeps its facts as attributes and ends with the next step.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any


class NbtoolkitError(Exception):
    """Tell what happened, why, and what to do next.

    ``facts`` become attributes of the error, for code that handles it.
    """

    def __init__(self, message: str, *, next_step: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        for name, value in facts.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return f"{self.message}\nNext: {self.next_step}"

    def _render_traceback_(self, *_: object) -> list[str]:
        """Show a notebook the cause and the next step; the full traceback goes to a file."""
        lines = [f"{type(self).__name__}: {self.message}", f"Next: {self.next_step}"]
        try:
            descriptor, path = tempfile.mkstemp(prefix="nbtoolkit-traceback-", suffix=".txt")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(traceback.format_exception(self))
        except OSError:
            return lines  # a full disk must not hide the error itself
        return [*lines, f"Full traceback: {path}"]


class InvalidSettings(NbtoolkitError, ValueError):
    """A setting, a parameter or a file's content is not acceptable."""


class BrokenFile(InvalidSettings):
    """A file cannot be parsed; the message names file, line and key."""


class WorkspaceNotFound(NbtoolkitError, FileNotFoundError):
    """No folder upwards of the start is a workspace."""


class InvalidAdapter(NbtoolkitError, ValueError):
    """A folder is no servable LoRA adapter."""


class InvalidBase(NbtoolkitError, ValueError):
    """A folder is no usable base model."""


class StoreError(NbtoolkitError, OSError):
    """A file store refused or failed; ``status`` and ``code`` are the service's, None where there is none."""

    status: int | None = None
    code: str | None = None


class AlreadyExists(StoreError, FileExistsError):
    """The name is taken and overwriting was not asked for."""


class NotInStore(StoreError, FileNotFoundError):
    """The store has no such file."""


class SyncRefused(NbtoolkitError, ValueError):
    """Some files must not or cannot be sent; nothing was."""


class ReleaseChanged(NbtoolkitError, RuntimeError):
    """Another deploy published a release first; ``by`` and ``release`` tell which."""


class SmokeTestFailed(NbtoolkitError, RuntimeError):
    """A check failed, or there is no green report for these bytes."""


class DeployFailed(NbtoolkitError, RuntimeError):
    """The new release did not become healthy and the old one serves again."""


class NotProven(NbtoolkitError, RuntimeError):
    """What answers could not be shown to be the adapter."""


class ServerFailed(NbtoolkitError, RuntimeError):
    """The server died or did not start; the message holds its last log lines."""


class NotReady(NbtoolkitError, TimeoutError):
    """The endpoint did not become ready in time; the message holds the reason."""


class RequestRefused(NbtoolkitError, RuntimeError):
    """The endpoint answered a request with an error; ``status`` and ``code`` tell which."""


class Busy(NbtoolkitError, RuntimeError):
    """Another operation holds this workspace and target."""


class AzureFailed(NbtoolkitError, RuntimeError):
    """Azure refused or failed a request; ``status``, ``code``, ``request_id`` and ``causes`` tell more.

    ``status`` is None where no answer came, each of ``causes`` has a message and a next step.
    """

    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    causes: Sequence[Any] = ()


class NotSignedIn(AzureFailed, PermissionError):
    """No source of credentials gives a token for Azure; ``reasons`` says why, by the name of the source."""

    reasons: Mapping[str, str] = MappingProxyType({})


class QuotaShort(AzureFailed):
    """Azure has fewer GPUs or environments left for this subscription and region than are needed."""


class Blocked(NbtoolkitError, RuntimeError):
    """Something must be settled before anything is written to Azure; ``blockers`` lists it."""


class ProvisionFailed(NbtoolkitError, RuntimeError):
    """A deployment to Azure failed; ``causes`` holds the cause and next step of each resource."""


class WheelsUnavailable(NbtoolkitError, RuntimeError):
    """A locked package of the container cannot be fetched; ``output`` holds pip's words."""


class StaleResult(NbtoolkitError, RuntimeError):
    """A form's values changed since the run whose result was asked for."""


class NotApplied(NbtoolkitError, RuntimeError):
    """A step that costs money was planned and not run; ``plan`` holds the plan."""


class MissingDependency(NbtoolkitError, ImportError):
    """An optional extra is not installed."""


class Cancelled(NbtoolkitError, RuntimeError):
    """The user cancelled; the message says what still runs."""
