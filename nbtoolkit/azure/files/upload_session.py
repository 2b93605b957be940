"""What all writes to a share have in common: they hear of a cancel while they wait, and clean up."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from contextlib import suppress
from typing import TypeVar

from nbtoolkit.azure.files.client import Request, ShareAccess
from nbtoolkit.azure.files.concurrency import BUDGET, CANCEL_POLL, POOL
from nbtoolkit.azure.files.rename import rename
from nbtoolkit.errors import StoreError
from nbtoolkit.filestore.paths import join
from nbtoolkit.progress import Sent, silent

T = TypeVar("T")

CLEAN_UP = 1
"""Seconds that a write which failed gives the removal of its temporary file."""


class Writer:
    """One file's way to the share; ``sent`` is called in the thread that writes, and raises to stop."""

    def __init__(self, access: ShareAccess, path: str, sent: Sent | None) -> None:
        self.access = access
        self.path = path
        self.sent = sent or silent

    def beside(self, name: str) -> str:
        """Return the path of a name in the file's folder."""
        return join(self.path.rpartition("/")[0], name)

    def ask(self, request: Request[T]) -> T:
        """Return what a request returns."""
        return self.access.ask("write", self.path, request, beat=self.sent)

    def rename(self, old: str, new: str, *, overwrite: bool) -> None:
        """Rename as :func:`~nbtoolkit.azure.files.rename.rename` does."""
        rename(self.access, old, new, overwrite=overwrite, beat=self.sent)

    def reserve(self, count: int) -> None:
        """Wait until so many bytes of memory may be used."""
        while not BUDGET.take(count, CANCEL_POLL):
            self.sent(0)

    def remove(self, temporary: str) -> None:
        """Remove the temporary file if that is quickly done; a later sync sweeps what stays."""
        enough = threading.Event()

        def work() -> None:
            with suppress(StoreError):
                self.access.ask(
                    "remove",
                    temporary,
                    lambda share, tries: share.get_file_client(temporary).delete_file(tries=tries),
                    enough,
                )

        wait([POOL.submit(work)], CLEAN_UP)
        enough.set()
