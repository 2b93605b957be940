"""A share mounted in a container, with the attribute cache of its mount options."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

ATTRIBUTE_CACHE_SECONDS = 30
"""Azure seconds that Container Apps caches attributes of a share: actimeo=30 by default."""


class MountFailed(Exception):
    """The share cannot be mounted; the text is the mount command's output."""


PERMISSION_DENIED = "mount error(13): Permission denied"
NO_SUCH_SHARE = "mount error(2): No such file or directory"


def has_short_cache(mount_options: str | None) -> bool:
    """Whether the options keep the attribute cache short."""
    return "actimeo=1" in (mount_options or "").replace(" ", "").split(",")


class CachedView:
    """A folder with the content of a share some real seconds ago; its changes are copied to the share.

    Files are hard links, so content takes no space; a comparison with the last synchronization shows which
    side changed a file.
    """

    def __init__(self, share: Path, view: Path, seconds: float) -> None:
        self.share = share
        self.view = view
        self._seconds = seconds
        self._known: dict[str, int] = {}
        self._ended = threading.Event()
        view.mkdir(parents=True, exist_ok=True)
        self._synchronize(refresh=True)
        self._thread = threading.Thread(target=self._run, name=f"cached view {view.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Copy the last changes to the share and stop."""
        self._ended.set()
        self._thread.join()
        self._synchronize(refresh=False)
        shutil.rmtree(self.view, ignore_errors=True)

    def _run(self) -> None:
        waited = 0.0
        pause = self._seconds / 3
        while not self._ended.wait(pause):
            waited += pause
            refresh = waited >= self._seconds
            self._synchronize(refresh=refresh)
            if refresh:
                waited = 0.0

    def _synchronize(self, *, refresh: bool) -> None:
        """Copy the view's changes to the share; with `refresh`, also those of the share to the view."""
        mine, theirs = _inodes(self.view), _inodes(self.share)
        for name, inode in mine.items():
            if self._known.get(name) != inode and theirs.get(name) != inode:
                _link(self.view / name, self.share / name)
                theirs[name] = inode
                self._known[name] = inode
        for name in [name for name in self._known if name not in mine]:
            if theirs.get(name) == self._known.pop(name):
                _remove(self.share / name)
                theirs.pop(name, None)
        if not refresh:
            return
        for name, inode in sorted(theirs.items()):
            if mine.get(name) != inode:
                _link(self.share / name, self.view / name)
            self._known[name] = inode
        for name in sorted(set(mine) - set(theirs), reverse=True):
            _remove(self.view / name)
            self._known.pop(name, None)


def _inodes(root: Path) -> dict[str, int]:
    """Relative path → inode of all files, and 0 for folders."""
    found: dict[str, int] = {}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        for name in folders:
            found[(here / name).relative_to(root).as_posix()] = 0
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                found[(here / name).relative_to(root).as_posix()] = (here / name).stat().st_ino
    return found


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile: the next synchronization handles it
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.late")
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        temporary.replace(target)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


class Mounted:
    """The folder of a container's volume."""

    def __init__(
        self, share: Path, view: Path, mount_options: str | None, real: Callable[[float], float]
    ) -> None:
        self._late = (
            None if has_short_cache(mount_options) else CachedView(share, view, real(ATTRIBUTE_CACHE_SECONDS))
        )
        self.folder = view if self._late else share

    def close(self) -> None:
        """Unmount."""
        if self._late:
            self._late.close()
