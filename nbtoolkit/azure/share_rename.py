"""Rename on a share, also where the answer to it was lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nbtoolkit.azure.share_access import ShareAccess
from nbtoolkit.errors import AlreadyExists, NotInStore

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.patience import Tries


def rename(
    access: ShareAccess, old: str, new: str, *, overwrite: bool, stop: threading.Event | None = None
) -> None:
    """Give a file another name; raises AlreadyExists and NotInStore. One request, two more in doubt."""
    last: list[Tries] = []

    def request(share: ShareClient, tries: Tries) -> None:
        last[:] = [tries]
        share.get_file_client(old).rename_file(new, overwrite=overwrite, tries=tries)

    try:
        access.ask("rename", old, request, stop)
    except (AlreadyExists, NotInStore) as refused:
        # An attempt that got no answer may have been carried out: then the old name is gone.
        if last[0].unsure and not _exists(access, old, stop) and _exists(access, new, stop):
            return
        if isinstance(refused, AlreadyExists):
            raise AlreadyExists(f"{new} exists already.", next_step="choose another name", path=new) from None
        raise


def _exists(access: ShareAccess, path: str, stop: threading.Event | None) -> bool:
    try:
        access.ask(
            "look at",
            path,
            lambda share, tries: share.get_file_client(path).get_file_properties(tries=tries),
            stop,
        )
    except NotInStore:
        return False
    return True
