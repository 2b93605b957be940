"""A share in a container, seen late unless the mount options say otherwise."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

ATTRIBUTE_SECONDS = 30
"""Azure seconds for which Container Apps caches what it has seen of a share: actimeo=30 by default."""


class MountFailed(Exception):
    """The share cannot be mounted; the text is the mount command's output."""


PERMISSION_DENIED = "mount error(13): Permission denied"
NO_SUCH_SHARE = "mount error(2): No such file or directory"


def fresh(mount_options: str | None) -> bool:
    """Whether the options keep the attribute cache short."""
    return "actimeo=1" in (mount_options or "").replace(" ", "").split(",")


class LateView:
    """A folder that shows a share as it was some real seconds ago; what is written in it goes to the share.

    Files are hard links, so content costs nothing; what differs between the two sides since the last look
    tells who changed it.
    """

    def __init__(self, share: Path, view: Path, seconds: float) -> None:
        self.share = share
        self.view = view
        self._seconds = seconds
        self._known: dict[str, int] = {}
        self._ended = threading.Event()
        view.mkdir(parents=True, exist_ok=True)
        self._exchange(look=True)
        self._thread = threading.Thread(target=self._run, name=f"late view {view.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pass on what was written last, and end."""
        self._ended.set()
        self._thread.join()
        self._exchange(look=False)
        shutil.rmtree(self.view, ignore_errors=True)

    def _run(self) -> None:
        waited = 0.0
        pause = self._seconds / 3
        while not self._ended.wait(pause):
            waited += pause
            look = waited >= self._seconds
            self._exchange(look=look)
            if look:
                waited = 0.0

    def _exchange(self, *, look: bool) -> None:
        """Pass the view's own changes on; with `look`, take over the share's."""
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
        if not look:
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
    with contextlib.suppress(FileNotFoundError):  # gone again: the next look settles it
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
    """The folder that a container sees as its volume."""

    def __init__(
        self, share: Path, view: Path, mount_options: str | None, real: Callable[[float], float]
    ) -> None:
        self._late = None if fresh(mount_options) else LateView(share, view, real(ATTRIBUTE_SECONDS))
        self.folder = view if self._late else share

    def close(self) -> None:
        """Unmount."""
        if self._late:
            self._late.close()
