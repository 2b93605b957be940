"""Upload a file: a small one in one request, a big one in ranges that an interrupted upload can resume."""

from __future__ import annotations

import hashlib
import io
import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from nbtoolkit.azure.files.client import Request, ShareConnection, read_range
from nbtoolkit.azure.files.request_limits import CANCEL_POLL, POOL, UPLOAD_MEMORY, RetryState
from nbtoolkit.errors import AlreadyExists, NotInStore, StoreError, SyncRefused
from nbtoolkit.filestore import chunked_io, join, temp_files
from nbtoolkit.filestore.chunked_io import CHUNK, Source
from nbtoolkit.progress import Sent

T = TypeVar("T")

Span = tuple[int, int]
"""First and last byte of a range, both included."""

CLEANUP_TIMEOUT = 1
"""Seconds that a failed upload waits for the removal of its temporary file."""

_active_uploads: set[str] = set()
"""Temporary paths that this process is writing."""


def upload_file(
    connection: ShareConnection, path: str, source: Source, sha256: str, overwrite: bool, sent: Sent
) -> str:
    """Write a file and return its sha256; see :meth:`AzureShare.write`."""
    upload = _Upload(connection, path, sent, overwrite)
    size = chunked_io.size(source, path)
    if size > CHUNK:
        return upload.send_ranges(source, size, sha256)
    upload.reserve(size)
    try:
        content = io.BytesIO()
        found = chunked_io.copy(source, content.write, name=path, expected=sha256)
        data = content.getvalue()
        if len(data) > CHUNK:  # it grew after its size was read
            return upload.send_ranges(data, len(data), sha256)
        upload.send_small(data)
    finally:
        UPLOAD_MEMORY.release(size)
    return found


class _Upload:
    """The upload of one file; ``sent`` is called in the uploading thread and may raise to stop."""

    def __init__(self, connection: ShareConnection, path: str, sent: Sent, overwrite: bool) -> None:
        self.connection = connection
        self.path = path
        self.sent = sent
        self._overwrite = overwrite

    def send_small(self, data: bytes) -> None:
        """Create a small file with its content in one request, and rename it in another.

        Azure does not document that the first request is atomic, so it never creates the final name.
        """
        temporary = self._sibling(temp_files.temp_name())
        try:
            self._call(
                lambda share: share.get_file_client(temporary).create_file(
                    len(data), data=data or None, validate_content="md5"
                )
            )
            self._rename(temporary, self.path, overwrite=self._overwrite)
        except BaseException:
            self._remove(temporary)
            raise
        self.sent(len(data))

    def send_ranges(self, source: Source, size: int, sha256: str) -> str:
        """Write a file of ``size`` bytes and return its sha256.

        Resumes an interrupted upload of the same ``sha256``. If this upload is interrupted or cancelled, the
        uploaded ranges stay for the next one.
        """
        temporary = self._sibling(temp_files.temp_name(sha256=sha256))
        _active_uploads.add(temporary)
        try:
            existing = self._resume(temporary, size, sha256) if sha256 else None
            if existing is None:
                self._create(temporary, size)
            try:
                found = self._send(temporary, source, size, sha256, existing or [])
            except _OtherContent:
                self._create(temporary, size)
                found = self._send(temporary, source, size, sha256, [])
            self._rename(temporary, self.path, overwrite=self._overwrite)
        except BaseException as error:
            if not sha256 or isinstance(error, (SyncRefused, AlreadyExists, NotInStore)):
                self._remove(temporary)
            raise
        finally:
            _active_uploads.discard(temporary)
        return found

    def reserve(self, count: int) -> None:
        """Wait until ``count`` bytes of memory are free, and reserve them."""
        while not UPLOAD_MEMORY.acquire(count, CANCEL_POLL):
            self.sent(0)

    def _resume(self, temporary: str, size: int, sha256: str) -> list[Span] | None:
        """Take over an interrupted upload and return its ranges; None if there is none.

        Taking over is a rename, which succeeds for one of many callers. The ranges may hold other content:
        the name holds the expected hash, and the first writer had not yet read its source to the end.
        """
        folder = self._sibling("")
        existing: list[Any] = self._call(
            lambda share: [*share.list_directories_and_files(folder, temp_files.PREFIX)]
        )
        for item in existing:
            name, path = str(item.name), self._sibling(item.name)
            ended_here = temp_files.is_from_this_process(name) and path not in _active_uploads
            abandoned = ended_here or temp_files.is_abandoned(name)
            if abandoned and item.size == size and temp_files.is_partial_upload_of(name, sha256):
                with suppress(NotInStore):  # another writer has just taken it over
                    self._rename(path, temporary, overwrite=False)
                    spans = self._call(lambda share: [*share.get_file_client(temporary).list_ranges()])
                    return [(span.start, span.end) for span in spans]
        return None

    def _create(self, path: str, size: int) -> None:
        """Create a file of that size; an existing one is replaced."""
        self._call(lambda share: share.get_file_client(path).create_file(size))

    def _send(self, temporary: str, source: Source, size: int, sha256: str, existing: list[Span]) -> str:
        ranges = _RangeWriter(self, temporary, existing)
        try:
            found = chunked_io.copy(source, ranges.write, name=self.path, expected=sha256)
            ranges.finish()
        except _OtherContent:
            self.sent(-ranges.reported)
            raise
        finally:
            ranges.abort()
        if ranges.offset != size:
            raise chunked_io.changed(self.path)
        return found

    def _sibling(self, name: str) -> str:
        """Return the path of another name in the file's folder."""
        return join(self.path.rpartition("/")[0], name)

    def _call(self, request: Request[T]) -> T:
        return self.connection.call("write", self.path, request, RetryState(on_wait=self.sent))

    def _rename(self, old: str, new: str, *, overwrite: bool) -> None:
        self.connection.rename(old, new, overwrite=overwrite, on_wait=self.sent)

    def _remove(self, temporary: str) -> None:
        """Remove the temporary file within :data:`CLEANUP_TIMEOUT`; else a later sync removes it."""
        stop = threading.Event()

        def remove() -> None:
            with suppress(StoreError):
                self.connection.call(
                    "remove",
                    temporary,
                    lambda share: share.get_file_client(temporary).delete_file(),
                    RetryState(stop),
                )

        wait([POOL.submit(remove)], CLEANUP_TIMEOUT)
        stop.set()


class _OtherContent(Exception):
    """The resumed file holds other content; never leaves this module."""


class _RangeWriter:
    """Upload the chunks of a file in order, each as one range.

    Azure verifies an uploaded range by its MD5. A range that already exists is downloaded and compared;
    a difference raises _OtherContent.

    Memory for the next chunk is always reserved before it is read, and passes to the range's upload.
    """

    def __init__(self, upload: _Upload, path: str, existing: list[Span]) -> None:
        self.offset = 0
        self.reported = 0
        self._upload = upload
        self._path = path
        self._existing = existing
        self._pending: dict[Future[None], int] = {}
        self._stop = threading.Event()
        upload.reserve(CHUNK)
        self._holds_memory = True

    def write(self, data: bytes) -> None:
        """Upload a chunk, or compare it with the existing range."""
        start, end = self.offset, self.offset + len(data) - 1
        self.offset = end + 1
        if any(first <= start and end <= last for first, last in self._existing):
            # Keep only the hash: the downloaded range takes the memory of the chunk.
            work = partial(self._compare, start, len(data), hashlib.sha256(data).digest())
        else:
            work = partial(self._put, start, data)
        while len(self._pending) >= self._upload.connection.limits.ranges_in_flight:
            self._collect()
        future = POOL.submit(work)
        self._holds_memory = False
        future.add_done_callback(lambda _: UPLOAD_MEMORY.release(CHUNK))
        self._pending[future] = len(data)
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
        found, _, _ = read_range(self._upload.connection, self._path, start, count, RetryState(self._stop))
        if hashlib.sha256(found).digest() != sha256:
            raise _OtherContent

    def _put(self, start: int, data: bytes) -> None:
        self._upload.connection.call(
            "write",
            self._upload.path,
            lambda share: share.get_file_client(self._path).upload_range(
                data, start, len(data), validate_content="md5"
            ),
            RetryState(self._stop),
        )

    def _collect(self) -> None:
        done = wait(self._pending, CANCEL_POLL, FIRST_COMPLETED).done
        if not done:
            self._upload.sent(0)
        for future in done:
            count = self._pending.pop(future)
            future.result()
            self.reported += count
            self._upload.sent(count)
