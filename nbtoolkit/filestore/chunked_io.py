"""Read a file or bytes in chunks, hash them, and copy them to a store."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from nbtoolkit.errors import SyncRefused
from nbtoolkit.progress import Sent, silent

CHUNK = 4 << 20
"""Bytes of one chunk: the limit of one range request to Azure Files."""

Source = bytes | Path
"""The content of a file to write."""


@contextmanager
def reading(source: Source, name: str) -> Generator[None]:
    """Raise SyncRefused, which names ``name``, for an OSError of a source."""
    try:
        yield
    except OSError as error:
        raise SyncRefused(
            f"{name} cannot be read from {source!s}: {error.strerror or error}.",
            next_step="check that the file exists and that you may read it, then run the step again",
        ) from error


def size(source: Source, name: str) -> int:
    """Return the number of bytes; raises SyncRefused, which names ``name``."""
    with reading(source, name):
        return len(source) if isinstance(source, bytes) else source.stat().st_size


def chunks(source: Source) -> Iterator[bytes]:
    """Yield the bytes of a source, :data:`CHUNK` at a time; raises OSError."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def sha256(source: Source, passed: Sent = silent) -> str:
    """Return the sha256 of a source; raises OSError."""
    digest = hashlib.sha256()
    for chunk in chunks(source):
        digest.update(chunk)
        passed(len(chunk))
    return digest.hexdigest()


def copy(
    source: Source, write: Callable[[bytes], object], *, name: str, expected: str = "", sent: Sent = silent
) -> str:
    """Call ``write`` with each chunk of a source and return its sha256.

    Raises SyncRefused, which names ``name``, if the source cannot be read or does not have the sha256
    ``expected``; an OSError comes from ``write``.
    """
    digest = hashlib.sha256()

    def readable() -> Iterator[bytes]:
        with reading(source, name):
            yield from chunks(source)

    for chunk in readable():
        write(chunk)
        digest.update(chunk)
        sent(len(chunk))
    if expected not in ("", digest.hexdigest()):
        raise changed(name)
    return digest.hexdigest()


def changed(name: str) -> SyncRefused:
    """Return the error for a source that changed since the plan."""
    return SyncRefused(
        f"{name} changed while it was being sent.",
        next_step="let the program that writes it finish, then run the step again",
    )
