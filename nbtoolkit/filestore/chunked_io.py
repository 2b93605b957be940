"""Bytes on their way: read in chunks, hashed as they pass."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nbtoolkit.errors import SyncRefused
from nbtoolkit.progress import Sent

CHUNK = 4 << 20
"""Bytes moved at once; what one range request to Azure Files takes."""

Source = bytes | Path
"""What a file is written from."""


class Sink(Protocol):
    """Takes bytes, all of them or raises."""

    def write(self, data: bytes, /) -> object:
        """Take a chunk."""
        ...


def size(source: Source) -> int:
    """Return the number of bytes; raises OSError."""
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def chunks(source: Source) -> Iterator[bytes]:
    """Yield the bytes of a source, :data:`CHUNK` at a time; raises OSError."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def sha256(source: Source, passed: Sent | None = None) -> str:
    """Return the sha256 of a source; raises OSError."""
    digest = hashlib.sha256()
    for chunk in chunks(source):
        digest.update(chunk)
        if passed:
            passed(len(chunk))
    return digest.hexdigest()


def copy(
    source: Source, sink: Sink, *, name: str, expected: str | None = None, sent: Sent | None = None
) -> str:
    """Copy a source into a sink and return its sha256.

    Raises SyncRefused, naming ``name``, if the source cannot be read or its sha256 is not ``expected``;
    an OSError is the sink's.
    """
    digest = hashlib.sha256()
    for chunk in _readable(source, name):
        sink.write(chunk)
        digest.update(chunk)
        if sent:
            sent(len(chunk))
    if expected is not None and digest.hexdigest() != expected:
        raise changed(name)
    return digest.hexdigest()


def changed(name: str) -> SyncRefused:
    """Return the error for a source that is no longer what it was."""
    return SyncRefused(
        f"{name} changed while it was being sent.",
        next_step="let the program that writes it finish, then run the step again",
    )


def unreadable(name: str, source: Source, error: OSError) -> SyncRefused:
    """Return the error for a source that cannot be read."""
    return SyncRefused(
        f"{name} cannot be read from {source!s}: {error.strerror or error}.",
        next_step="look whether the file is still there and yours to read, then run the step again",
    )


def _readable(source: Source, name: str) -> Iterator[bytes]:
    try:
        yield from chunks(source)
    except OSError as error:
        raise unreadable(name, source, error) from error
