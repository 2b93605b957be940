"""Upload a big file in concurrent ranges, and resume an interrupted upload."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from nbtoolkit.azure.files.concurrency import CANCEL_POLL, POOL, UPLOAD_MEMORY
from nbtoolkit.azure.files.download import read_range
from nbtoolkit.azure.files.upload_session import UploadSession
from nbtoolkit.errors import AlreadyExists, NotInStore, SyncRefused
from nbtoolkit.filestore import chunked_io as streams
from nbtoolkit.filestore import temp_files as temp_names
from nbtoolkit.filestore.chunked_io import CHUNK, Source

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.files.retry_policy import RetryState

Span = tuple[int, int]
"""First and last byte of a range, both included."""

MAX_IN_FLIGHT = 12
"""Concurrent ranges of one file: 48 MiB."""

_active_uploads: set[str] = set()
"""Temporary paths that this process is writing."""


def upload_ranges(
    writer: UploadSession, source: Source, size: int, sha256: str | None, *, overwrite: bool
) -> str:
    """Write a file of ``size`` bytes and return its sha256.

    Resumes an interrupted upload of the same ``sha256``. If this upload is interrupted or cancelled, the
    uploaded ranges stay for the next one.
    """
    temporary = writer.sibling(temp_names.temp_name(sha256=sha256))
    _active_uploads.add(temporary)
    try:
        there = _resume(writer, temporary, size, sha256) if sha256 else None
        if there is None:
            _create(writer, temporary, size)
        try:
            found = _send(writer, temporary, source, size, sha256, there or [])
        except _OtherContent:
            _create(writer, temporary, size)
            found = _send(writer, temporary, source, size, sha256, [])
        writer.rename(temporary, writer.path, overwrite=overwrite)
    except BaseException as error:
        if sha256 is None or isinstance(error, (SyncRefused, AlreadyExists, NotInStore)):
            writer.remove_temporary(temporary)
        raise
    finally:
        _active_uploads.discard(temporary)
    return found


def _resume(writer: UploadSession, temporary: str, size: int, sha256: str) -> list[Span] | None:
    """Take over an interrupted upload and return its ranges; None if there is none.

    Taking over is a rename, which succeeds for one of many callers. The ranges may hold other content: the
    name holds the expected hash, and the first writer had not yet read its source to the end.
    """
    for left in _find_partial_uploads(writer, size, sha256):
        with suppress(NotInStore):  # another writer has just taken it over
            writer.rename(left, temporary, overwrite=False)
            spans = writer.call(
                lambda share, state: [*share.get_file_client(temporary).list_ranges(retry_state=state)]
            )
            return [(span.start, span.end) for span in spans]
    return None


def _create(writer: UploadSession, path: str, size: int) -> None:
    """Create a file of that size; an existing one is replaced."""
    writer.call(lambda share, state: share.get_file_client(path).create_file(size, retry_state=state))


def _find_partial_uploads(writer: UploadSession, size: int, sha256: str) -> list[str]:
    def request(share: ShareClient, state: RetryState) -> list[Any]:
        return [*share.list_directories_and_files(writer.sibling(""), temp_names.PREFIX, retry_state=state)]

    return [
        writer.sibling(item.name)
        for item in writer.call(request)
        if temp_names.is_partial_upload_of(item.name, sha256)
        and item.size == size
        and (temp_names.is_abandoned(item.name) or _is_abandoned_here(writer, item.name))
    ]


def _is_abandoned_here(writer: UploadSession, name: str) -> bool:
    return temp_names.is_from_this_process(name) and writer.sibling(name) not in _active_uploads


def _send(
    writer: UploadSession, temporary: str, source: Source, size: int, sha256: str | None, there: list[Span]
) -> str:
    ranges = _RangeWriter(writer, temporary, there)
    try:
        found = streams.copy(source, ranges, name=writer.path, expected=sha256)
        ranges.finish()
    except _OtherContent:
        writer.sent(-ranges.reported)
        raise
    finally:
        ranges.abort()
    if ranges.offset != size:
        raise streams.changed(writer.path)
    return found


class _OtherContent(Exception):
    """The resumed file holds other content; never leaves this module."""


class _RangeWriter:
    """Upload the chunks of a file in order, each as one range.

    Azure verifies an uploaded range by its MD5. A range that already exists is downloaded and compared;
    a difference raises _OtherContent.

    Memory for the next chunk is always reserved before it is read, and passes to the range's upload.
    """

    def __init__(self, writer: UploadSession, path: str, there: list[Span]) -> None:
        self.offset = 0
        self.reported = 0
        self._writer = writer
        self._path = path
        self._existing = there
        self._pending: dict[Future[None], int] = {}
        self._stop = threading.Event()
        writer.reserve(CHUNK)
        self._holds_memory = True

    def write(self, data: bytes, /) -> None:
        """Upload a chunk, or compare it with the existing range."""
        start, end = self.offset, self.offset + len(data) - 1
        self.offset = end + 1
        if any(first <= start and end <= last for first, last in self._existing):
            # Keep only the hash: the downloaded range takes the memory of the chunk.
            work = partial(self._compare, start, len(data), hashlib.sha256(data).digest())
        else:
            work = partial(self._put, start, data)
        self._submit(work, len(data))

    def _submit(self, work: Callable[[], None], count: int) -> None:
        while len(self._pending) >= MAX_IN_FLIGHT:
            self._collect()
        future = POOL.submit(work)
        self._holds_memory = False
        future.add_done_callback(lambda _: UPLOAD_MEMORY.release(CHUNK))
        self._pending[future] = count
        while not UPLOAD_MEMORY.acquire(CHUNK, CANCEL_POLL):
            self._collect()
        self._holds_memory = True

    def finish(self) -> None:
        """Wait until all ranges are uploaded."""
        while self._pending:
            self._collect()

    def abort(self) -> None:
        """Stop running requests, start no more, and release the memory."""
        self._stop.set()
        for future in self._pending:
            future.cancel()
        if self._holds_memory:
            self._holds_memory = False
            UPLOAD_MEMORY.release(CHUNK)

    def _compare(self, start: int, count: int, sha256: bytes) -> None:
        found, _, _ = read_range(self._writer.access, self._path, start, count, self._stop)
        if hashlib.sha256(found).digest() != sha256:
            raise _OtherContent

    def _put(self, start: int, data: bytes) -> None:
        def request(share: ShareClient, state: RetryState) -> None:
            file = share.get_file_client(self._path)
            file.upload_range(data, start, len(data), validate_content="md5", retry_state=state)

        self._writer.access.call("write", self._writer.path, request, self._stop)

    def _collect(self) -> None:
        done = wait(self._pending, CANCEL_POLL, FIRST_COMPLETED).done
        if not done:
            self._writer.sent(0)
        for future in done:
            count = self._pending.pop(future)
            future.result()
            self.reported += count
            self._writer.sent(count)
