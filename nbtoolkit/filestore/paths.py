"""Paths in a file store: posix, and relative to its root."""

from __future__ import annotations

from nbtoolkit.errors import StoreError


def check_path(path: str, *, folder: bool = False) -> str:
    """Return a path that stays below the root as it is; "" is the root, where a ``folder`` is wanted."""
    if path == "" and folder:
        return path
    if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path or "\0" in path:
        raise StoreError(
            f"{path!r} is no path in a file store.",
            next_step="use a relative path with / and without . or .. in it",
        )
    return path


def join(folder: str, name: str) -> str:
    """Return the path of a name in a folder; either may be "", the root and the folder itself."""
    return f"{folder}/{name}" if folder and name else folder or name
