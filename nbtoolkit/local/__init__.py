"""Serve on this machine: a folder is the share, a process is the container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbtoolkit.local.target import LocalTarget as LocalTarget

__all__ = ["LocalTarget"]


def __getattr__(name: str) -> Any:  # imported late: the launcher in this package does not need it
    if name == "LocalTarget":
        from nbtoolkit.local.target import LocalTarget

        return LocalTarget
    raise AttributeError(f"module 'nbtoolkit.local' has no attribute {name!r}")
