"""Rename on this machine without ever overwriting."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file, or raise FileExistsError; of many callers exactly one wins a name.

    os.rename overwrites on POSIX, a hard link never does.
    """
    if os.name == "nt":
        source.rename(target)
        return
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links (exFAT, some network mounts) the name is claimed by creating it, then filled;
        # who reads in between finds an empty file.
        with target.open("xb"):
            pass
        source.replace(target)
        return
    source.unlink()
