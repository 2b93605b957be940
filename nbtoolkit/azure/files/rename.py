"""Rename on a share, also where the answer to it was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbtoolkit.azure.files.client import ShareAccess
from nbtoolkit.errors import AlreadyExists, NotInStore
from nbtoolkit.progress import Sent

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.files.retry_policy import RetryState


def rename(
    access: ShareAccess,
    old: str,
    new: str,
    *,
    overwrite: bool,
    beat: Sent | None = None,
) -> None:
    """Give a file another name; raises AlreadyExists and NotInStore. One request, two more in doubt."""
    last: list[RetryState] = []

    def request(share: ShareClient, tries: RetryState) -> None:
        last[:] = [tries]
        share.get_file_client(old).rename_file(new, overwrite=overwrite, tries=tries)

    try:
        access.ask("rename", old, request, beat=beat)
    except (AlreadyExists, NotInStore) as refused:
        # An attempt that got no answer may have been carried out: then the old name is gone.
        if last[0].unsure and not _exists(access, old, beat) and _exists(access, new, beat):
            return
        if isinstance(refused, AlreadyExists):
            raise AlreadyExists(f"{new} exists already.", next_step="choose another name", path=new) from None
        raise


def _exists(access: ShareAccess, path: str, beat: Sent | None) -> bool:
    try:
        access.ask(
            "look at",
            path,
            lambda share, tries: share.get_file_client(path).get_file_properties(tries=tries),
            beat=beat,
        )
    except NotInStore:
        return False
    return True
