"""A file on its way from a share: in ranges, many at once, each checked by its MD5."""

from __future__ import annotations

import threading
from collections.abc import Generator

from nbtoolkit.azure.files.client import ShareAccess
from nbtoolkit.azure.files.concurrency import in_order
from nbtoolkit.errors import StoreError
from nbtoolkit.filestore.chunked_io import CHUNK
from nbtoolkit.progress import Sent


def pieces(access: ShareAccess, path: str, offset: int, length: int | None, beat: Sent) -> Generator[bytes]:
    """Yield the bytes of a file, one range after another, some fetched ahead; all of one version.

    ``beat`` is told of 0 bytes while it waits, and may raise; who may leave early closes the iterator.
    """
    first = CHUNK if length is None else min(length, CHUNK)
    if first <= 0:
        return
    stop = threading.Event()
    data, size, version = piece(access, path, offset, first, stop, beat)
    yield data
    end = size if length is None else min(size, offset + length)

    def fetch(start: int) -> bytes:
        found, _, now = piece(access, path, start, min(CHUNK, end - start), stop)
        if now != version:
            raise StoreError(f"{path} was replaced while it was read.", next_step="read it again", path=path)
        return found

    yield from in_order(fetch, range(offset + CHUNK, end, CHUNK), stop, beat)


def piece(
    access: ShareAccess,
    path: str,
    start: int,
    length: int,
    stop: threading.Event | None = None,
    beat: Sent | None = None,
) -> tuple[bytes, int, str]:
    """Return the bytes of one range, up to 4 MiB, the size of the file and its version."""
    try:
        got = access.ask(
            "read",
            path,
            lambda share, tries: share.get_file_client(path).download_file(
                offset=start, length=length, validate_content="md5", tries=tries
            ),
            stop,
            beat,
        )
    except StoreError as error:
        if error.code == "InvalidRange":
            return b"", 0, ""  # nothing is there from here on
        raise
    size = int(str(got.properties.content_range).rpartition("/")[2])
    return got.readall(), size, str(got.properties.etag)
