"""Rename on a share, with the outcome verified if the response was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbtoolkit.azure.files.client import ShareConnection
from nbtoolkit.errors import AlreadyExists, NotInStore
from nbtoolkit.progress import Sent

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.files.retry_policy import RetryState


def rename(
    access: ShareConnection,
    old: str,
    new: str,
    *,
    overwrite: bool,
    on_wait: Sent | None = None,
) -> None:
    """Rename a file; raises AlreadyExists and NotInStore. One request, two more if a response was lost."""
    last: list[RetryState] = []

    def request(share: ShareClient, state: RetryState) -> None:
        last[:] = [state]
        share.get_file_client(old).rename_file(new, overwrite=overwrite, retry_state=state)

    try:
        access.call("rename", old, request, on_wait=on_wait)
    except (AlreadyExists, NotInStore) as refused:
        # An attempt without a response may have been applied: then the old name is gone.
        if last[0].maybe_applied and not _exists(access, old, on_wait) and _exists(access, new, on_wait):
            return
        if isinstance(refused, AlreadyExists):
            raise AlreadyExists(f"{new} already exists.", next_step="choose another name", path=new) from None
        raise


def _exists(access: ShareConnection, path: str, beat: Sent | None) -> bool:
    try:
        access.call(
            "read the properties of",
            path,
            lambda share, state: share.get_file_client(path).get_file_properties(retry_state=state),
            on_wait=beat,
        )
    except NotInStore:
        return False
    return True
