"""Download a file from a share: concurrent ranges, each verified by its MD5."""

from __future__ import annotations

import threading
from collections.abc import Generator

from nbtoolkit.azure.files.client import ShareConnection
from nbtoolkit.azure.files.concurrency import map_in_order
from nbtoolkit.errors import StoreError
from nbtoolkit.filestore.chunked_io import CHUNK
from nbtoolkit.progress import Sent


def read_chunks(
    access: ShareConnection, path: str, offset: int, length: int | None, beat: Sent
) -> Generator[bytes]:
    """Yield the bytes of one version of a file, range by range, with some ranges downloaded ahead.

    ``on_wait`` is called with 0 while this waits, and may raise; a caller that may stop early closes the
    iterator.
    """
    first = CHUNK if length is None else min(length, CHUNK)
    if first <= 0:
        return
    stop = threading.Event()
    data, size, version = read_range(access, path, offset, first, stop, beat)
    yield data
    end = size if length is None else min(size, offset + length)

    def fetch(start: int) -> bytes:
        found, _, now = read_range(access, path, start, min(CHUNK, end - start), stop)
        if now != version:
            raise StoreError(f"{path} was replaced while it was read.", next_step="read it again", path=path)
        return found

    yield from map_in_order(fetch, range(offset + CHUNK, end, CHUNK), stop, beat)


def read_range(
    access: ShareConnection,
    path: str,
    start: int,
    length: int,
    stop: threading.Event | None = None,
    beat: Sent | None = None,
) -> tuple[bytes, int, str]:
    """Return the bytes of one range, up to 4 MiB, the size of the file and its version."""
    try:
        got = access.call(
            "read",
            path,
            lambda share, state: share.get_file_client(path).download_file(
                offset=start, length=length, validate_content="md5", retry_state=state
            ),
            stop,
            beat,
        )
    except StoreError as error:
        if error.code == "InvalidRange":
            return b"", 0, ""  # the file ends before this offset
        raise
    size = int(str(got.properties.content_range).rpartition("/")[2])
    return got.readall(), size, str(got.properties.etag)
