"""State that all uploads to a share need: cancel while waiting, memory, clean-up."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from contextlib import suppress
from typing import TypeVar

from nbtoolkit.azure.files.client import Request, ShareConnection
from nbtoolkit.azure.files.concurrency import CANCEL_POLL, POOL, UPLOAD_MEMORY
from nbtoolkit.azure.files.rename import rename
from nbtoolkit.errors import StoreError
from nbtoolkit.filestore.paths import join
from nbtoolkit.progress import Sent, silent

T = TypeVar("T")

CLEANUP_TIMEOUT = 1
"""Seconds that a failed upload waits for the removal of its temporary file."""


class UploadSession:
    """The upload of one file; ``sent`` is called in the uploading thread and may raise to stop."""

    def __init__(self, access: ShareConnection, path: str, sent: Sent | None) -> None:
        self.access = access
        self.path = path
        self.sent = sent or silent

    def sibling(self, name: str) -> str:
        """Return the path of another name in the file's folder."""
        return join(self.path.rpartition("/")[0], name)

    def call(self, request: Request[T]) -> T:
        """Send a request and return its result."""
        return self.access.call("write", self.path, request, on_wait=self.sent)

    def rename(self, old: str, new: str, *, overwrite: bool) -> None:
        """Rename as :func:`~nbtoolkit.azure.files.rename.rename` does."""
        rename(self.access, old, new, overwrite=overwrite, on_wait=self.sent)

    def reserve(self, count: int) -> None:
        """Wait until ``count`` bytes of memory are free, and reserve them."""
        while not UPLOAD_MEMORY.acquire(count, CANCEL_POLL):
            self.sent(0)

    def remove_temporary(self, temporary: str) -> None:
        """Remove the temporary file within :data:`CLEANUP_TIMEOUT`; else a later sync removes it."""
        stop = threading.Event()

        def work() -> None:
            with suppress(StoreError):
                self.access.call(
                    "remove",
                    temporary,
                    lambda share, state: share.get_file_client(temporary).delete_file(retry_state=state),
                    stop,
                )

        wait([POOL.submit(work)], CLEANUP_TIMEOUT)
        stop.set()
