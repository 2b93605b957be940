"""Files under one root: a local folder now, an Azure file share behind the same protocol."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nbtoolkit.errors import AlreadyExists, NotInStore, StoreError
from nbtoolkit.filestore import (
    chunked_io as streams,
)
from nbtoolkit.filestore import (
    exclusive_rename as renaming,
)
from nbtoolkit.filestore import (
    temp_files as temp_names,
)
from nbtoolkit.filestore.chunked_io import Source
from nbtoolkit.filestore.paths import check_path, join
from nbtoolkit.progress import Sent


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder; ``size`` in bytes, 0 for folders.

    ``version`` changes whenever the content is written again, where the store can tell; else it is "".
    """

    name: str
    is_folder: bool
    size: int = 0
    version: str = ""


class FileStore(Protocol):
    """List, read, write, rename and delete under one root.

    Paths are posix and relative to the root; :func:`check_path` says which are refused. Every method may
    be called from many threads, costs about one request (``write``: one per chunk and two more), and
    raises :class:`StoreError`. A folder exists only once :meth:`make_folder` made it.
    """

    @property
    def parallel(self) -> int:
        """How many calls at once serve it best."""
        ...

    def list(self, folder: str) -> list[Entry]:
        """Return the entries of one folder by name; [] if it is missing. One request however long."""
        ...

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a file's bytes from ``offset``; raises NotInStore."""
        ...

    def sha256(self, path: str, passed: Sent | None = None) -> str:
        """Return the sha256 of a file's content; reads it all. Raises NotInStore."""
        ...

    def write(
        self,
        path: str,
        source: Source,
        *,
        sha256: str | None = None,
        overwrite: bool = True,
        sent: Sent | None = None,
    ) -> str:
        """Write a whole file, verify what arrived, then give it its name; return its sha256.

        Under its name a file is always whole: a killed write leaves a temporary name only, and a write
        that raises, a cancel from ``sent`` among it, leaves nothing, or a part of a big file of known
        ``sha256`` with which the next write of that content goes on. ``sent`` is told of every chunk, and
        of 0 bytes while it takes long. Raises SyncRefused when the source does not hash to ``sha256``,
        AlreadyExists, and NotInStore when the folder is missing.
        """
        ...

    def rename(self, old: str, new: str, *, overwrite: bool = False) -> None:
        """Give a file another name in one step; raises AlreadyExists, NotInStore."""
        ...

    def delete(self, path: str) -> None:
        """Delete a file; one that is missing is no error."""
        ...

    def make_folder(self, path: str) -> None:
        """Make one folder; one that is there is no error. Raises NotInStore if its parent is missing."""
        ...

    def delete_folder(self, path: str, passed: Sent | None = None) -> None:
        """Delete a folder and all below it; one that is missing is no error.

        ``passed`` is told of 0 bytes now and then, and may raise to stop.
        """
        ...


class LocalFolder:
    """A folder of this machine as a :class:`FileStore`."""

    parallel = 8
    """Enough to keep a disk or a mount busy."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    def __repr__(self) -> str:
        return f"LocalFolder({str(self.root)!r})"

    def list(self, folder: str) -> list[Entry]:
        """Return the entries of one folder by name; [] if it is missing."""
        try:
            with os.scandir(self._resolve(folder)) as found:
                entries = [entry for item in found if (entry := _entry(item))]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._store_error("list", folder, error) from error
        return sorted(entries, key=lambda entry: entry.name)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a file's bytes from ``offset``; raises NotInStore."""
        try:
            with self._resolve(path).open("rb") as file:
                file.seek(offset)
                return file.read(-1 if length is None else length)
        except OSError as error:
            raise self._store_error("read", path, error) from error

    def sha256(self, path: str, passed: Sent | None = None) -> str:
        """Return the sha256 of a file's content; reads it all."""
        try:
            return streams.sha256(self._resolve(path), passed)
        except OSError as error:
            raise self._store_error("read", path, error) from error

    def write(
        self,
        path: str,
        source: Source,
        *,
        sha256: str | None = None,
        overwrite: bool = True,
        sent: Sent | None = None,
    ) -> str:
        """Write a whole file under a temporary name, read it again, then rename it; return its sha256."""
        check_path(path)
        folder, _, _ = path.rpartition("/")
        temporary = join(folder, temp_names.temp_name())
        try:
            self._check_inside_root(folder)
            with self._resolve(temporary).open("xb") as file:
                went_out = streams.copy(source, file, name=path, expected=sha256, sent=sent)
            if self.sha256(temporary, sent and (lambda _: sent(0))) != went_out:
                raise StoreError(
                    f"{path} did not arrive as it was sent: its sha256 is not {went_out}.",
                    next_step="check the disk of the share, then run the step again",
                )
            self.rename(temporary, path, overwrite=overwrite)
        except OSError as error:
            raise self._store_error("write", path, error) from error
        finally:
            with contextlib.suppress(OSError):  # what stays is swept by the next sync of this folder
                self._resolve(temporary).unlink()
        return went_out

    def rename(self, old: str, new: str, *, overwrite: bool = False) -> None:
        """Give a file another name in one step; without ``overwrite`` exactly one of many callers wins."""
        source, target = self._resolve(old), self._resolve(new)
        try:
            self._check_inside_root(new.rpartition("/")[0])
            if overwrite:
                source.replace(target)
            else:
                renaming.rename_new(source, target)
        except OSError as error:
            raise self._store_error(
                "rename", new if isinstance(error, FileExistsError) else old, error
            ) from error

    def delete(self, path: str) -> None:
        """Delete a file; one that is missing is no error."""
        try:
            self._check_inside_root(path.rpartition("/")[0])
            self._resolve(path).unlink(missing_ok=True)
        except OSError as error:
            raise self._store_error("delete", path, error) from error

    def make_folder(self, path: str) -> None:
        """Make one folder; one that is there is no error."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._check_inside_root(path.rpartition("/")[0])
            self._resolve(path).mkdir(exist_ok=True)
        except OSError as error:
            raise self._store_error("make the folder", path, error) from error

    def delete_folder(self, path: str, passed: Sent | None = None) -> None:
        """Delete a folder and all below it; one that is missing is no error, a link loses only itself."""
        target = self._resolve(path)
        if target == self.root:
            raise StoreError("The root of a store is not deleted.", next_step="name a folder below it")
        try:
            self._check_inside_root(path.rpartition("/")[0])
            if target.is_symlink():
                target.unlink()
            elif target.exists():
                if passed:
                    passed(0)
                shutil.rmtree(target)
        except OSError as error:
            raise self._store_error("delete the folder", path, error) from error

    def _resolve(self, path: str) -> Path:
        return self.root / check_path(path, folder=True)

    def _check_inside_root(self, folder: str) -> None:
        """Refuse to change anything behind a link that leaves the root."""
        real = Path(os.path.realpath(self._resolve(folder)))
        if not real.is_relative_to(os.path.realpath(self.root)):
            raise StoreError(
                f"{folder} leads out of the share, to {real}.",
                next_step="replace the link in the share's folder by a plain folder",
            )

    def _store_error(self, doing: str, path: str, error: OSError) -> StoreError:
        if isinstance(error, StoreError):
            return error
        message = f"Could not {doing} {path or 'the root'} in {self.root}: {error.strerror or error}."
        if isinstance(error, FileExistsError):
            return AlreadyExists(f"{path} already exists.", next_step="choose another name", path=path)
        if isinstance(error, FileNotFoundError):
            return NotInStore(message, next_step="look at what the folder holds", path=path)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreError(message, next_step="free space on that disk, then run the step again")
        return StoreError(message, next_step="check the rights on that folder, then run the step again")


def make_folders(store: FileStore, path: str) -> None:
    """Make a folder and those above it; one request each, so keep what you made."""
    parts = path.split("/") if path else []
    for end in range(1, len(parts) + 1):
        store.make_folder("/".join(parts[:end]))


def sweep(store: FileStore, folder: str) -> list[Entry]:
    """List a folder and delete what killed writers left in it; return the rest."""
    rest: list[Entry] = []
    for entry in store.list(folder):
        if temp_names.is_abandoned(entry.name):
            store.delete(join(folder, entry.name))
        else:
            rest.append(entry)
    return rest


def _entry(item: os.DirEntry[str]) -> Entry | None:
    try:
        if item.is_dir():
            return Entry(item.name, is_folder=True)
        about = item.stat()
    except FileNotFoundError:
        return None  # a dangling link, or renamed by another writer since
    version = f"{about.st_ino}-{about.st_mtime_ns}"
    return Entry(item.name, is_folder=False, size=about.st_size, version=version)
