"""Error codes of Azure Files: cause and next step of each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from nbtoolkit.errors import AlreadyExists, NotInStore, StoreError

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError

ROLE = "Storage File Data Privileged Contributor"
_RERUN = "run the step again; it resumes from what is done"
_HELD = ("a replica or another program holds it open", "wait until it is closed, then run the step again")

CAUSES: dict[str, tuple[str, str]] = {
    "ShareNotFound": (
        "the file share does not exist",
        "run provision(), or correct FILE_SHARE_NAME in infra/inference.config.json",
    ),
    "ShareBeingDeleted": ("the file share is being deleted", "wait a minute, then provision it again"),
    "ShareDisabled": ("the file share is disabled by its administrator", "ask them to enable it"),
    "ShareSizeLimitReached": (
        "the file share is full",
        "raise its quota in the portal (storage account, File shares, Edit quota), or remove old models",
    ),
    "AuthorizationFailure": (
        "the storage account's firewall blocks this machine",
        "allow this machine's address in the portal (storage account, Networking), then run the step again",
    ),
    "AuthenticationFailed": (
        "the storage account does not accept its own key, which was just read",
        "set this machine's clock, since signed requests end after 15 minutes; then run the step again",
    ),
    "KeyBasedAuthenticationNotPermitted": (
        "the storage account accepts no account keys",
        f"ask an owner of the account for the role {ROLE!r}; Container Apps mount a share by key only, so "
        "they need allowSharedKeyAccess too",
    ),
    "AuthorizationPermissionMismatch": (
        "the signed-in account lacks the right to use the data of this storage account",
        f"ask an owner of the account for the role {ROLE!r}",
    ),
    "SharingViolation": _HELD,
    "FileLockConflict": _HELD,
    "FileOpenBySmbClient": _HELD,
    "DeletePending": ("it is being deleted and another client still holds it open", _HELD[1]),
    "ReadOnlyAttribute": ("its read-only attribute is set", "remove that attribute in the portal"),
    "DirectoryNotEmpty": ("another client writes into it at the same time", _RERUN),
    "ResourceTypeMismatch": (
        "a folder has the name of this file, or a file the name of this folder",
        "list the folder, and rename one of them",
    ),
    "Md5Mismatch": ("the data was corrupted on the way, also when it was sent again", _RERUN),
    "ServerBusy": ("Azure is throttling this storage account", f"wait a few minutes, then {_RERUN}"),
    "OperationTimedOut": ("Azure did not finish it in time", _RERUN),
    "InvalidHeaderValue": (
        "Azure rejects a header of the request",
        "if this cloud is older than the SDK's version of the service, pin azure-storage-file-share lower",
    ),
}


def store_error(action: str, path: str, share: str, error: AzureError | OSError) -> StoreError:
    """Return the error for an exception of the SDK; ``action`` completes "Could not"."""
    code = code_of(error)
    what = f"Could not {action} {path or 'the root'} in {share}"
    if code == "ResourceAlreadyExists":
        return AlreadyExists(f"{path} already exists.", next_step="choose another name", path=path)
    if code in ("ResourceNotFound", "ParentNotFound"):
        which = "its folder does" if code == "ParentNotFound" else "it does"
        return NotInStore(f"{what}: {which} not exist.", next_step="list the folder", path=path)
    status: int | None = getattr(error, "status_code", None)
    refused = partial(StoreError, path=path, status=status, code=code)
    if code in CAUSES:
        cause, next_step = CAUSES[code]
        return refused(f"{what}: {cause} ({code}).", next_step=next_step)
    if status is None:
        text = " ".join(str(error).split())[:300]
        return refused(
            f"{what}: no complete response arrived ({text}).",
            next_step=f"check the network, the proxy (HTTPS_PROXY) and its certificate; then {_RERUN}",
        )
    text = str(error).partition("\n")[0][:300]
    if status == 429 or status >= 500:
        next_step = f"wait a few minutes, then {_RERUN}"
    else:
        next_step = "look up that code in the documentation of Azure Files"
    return refused(f"{what}: {text} ({code or status}).", next_step=next_step)


def code_of(error: BaseException) -> str:
    """Return the service's error code, "" if there was no response."""
    code: Any = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")
