"""Replace a small file atomically: readers and crashes leave the old content or the new."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from nbtoolkit.errors import StoreError


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content; its permissions stay, and a link stays a link.

    The content is on the disk when this returns. Raises :class:`StoreError`; the old file is then untouched.
    """
    target = path.resolve()
    scratch = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                scratch.chmod(target.stat().st_mode & 0o7777)
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)
        if os.name == "posix":  # the rename must survive a power failure too
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.",
            next_step="make its folder writable and keep some disk space free",
            path=path,
        ) from error
