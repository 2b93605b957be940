"""List, read, write, rename and delete files under one root, local or an Azure file share."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nbtoolkit.errors import AlreadyExists, NotInStore, StoreError
from nbtoolkit.filestore import chunked_io, temp_files
from nbtoolkit.filestore.chunked_io import Source
from nbtoolkit.progress import Sent, silent

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder; ``size`` in bytes, 0 for folders.

    ``version`` changes whenever the content is written, "" if the store has no versions.
    """

    name: str
    is_folder: bool
    size: int = 0
    version: str = ""


class FileStore(Protocol):
    """List, read, write, rename and delete under one root.

    Paths are posix and relative to the root; :func:`check_path` refuses others. Every method is safe to call
    from many threads, costs about one request (``write``: one per chunk and two more), and raises
    :class:`StoreError`. A folder exists only after :meth:`make_folder`.
    """

    @property
    def parallel(self) -> int:
        """The number of concurrent calls with the best throughput."""
        ...

    def list(self, folder: str) -> list[Entry]:
        """Return the entries of one folder by name; [] if it is missing. One request for any length."""
        ...

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a file's bytes from ``offset``; raises NotInStore."""
        ...

    def sha256(self, path: str, passed: Sent = silent) -> str:
        """Return the sha256 of a file's content; reads all of it. Raises NotInStore."""
        ...

    def write(
        self, path: str, source: Source, *, sha256: str = "", overwrite: bool = True, sent: Sent = silent
    ) -> str:
        """Write a whole file under a temporary name, verify and rename it; return its sha256.

        A file under its own name is always complete. A killed write leaves only a temporary file. A write
        that raises, also by a cancel from ``sent``, leaves nothing, or a part of a big file with a given
        ``sha256``, which the next write of that content resumes. ``sent`` is called with the size of each
        chunk, and with 0 during a long wait. Raises SyncRefused if the source does not have ``sha256``,
        AlreadyExists, and NotInStore if the folder is missing.
        """
        ...

    def rename(self, old: str, new: str, *, overwrite: bool = False) -> None:
        """Rename a file atomically; raises AlreadyExists and NotInStore."""
        ...

    def delete(self, path: str) -> None:
        """Delete a file; a missing file is not an error."""
        ...

    def make_folder(self, path: str) -> None:
        """Create one folder; an existing one is not an error. Raises NotInStore if its parent is missing."""
        ...

    def delete_folder(self, path: str, passed: Sent = silent) -> None:
        """Delete a folder and its content; a missing folder is not an error.

        ``passed`` is called with 0 now and then, and may raise to stop.
        """
        ...


class LocalFolder:
    """A local folder as a :class:`FileStore`."""

    parallel = 8
    """Enough to keep a disk or a mount busy."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    def __repr__(self) -> str:
        return f"LocalFolder({str(self.root)!r})"

    def list(self, folder: str) -> list[Entry]:
        """Return the entries of one folder by name; [] if it is missing."""
        with self._store_errors("list", folder):
            try:
                with os.scandir(self._resolve(folder)) as found:
                    entries = [entry for item in found if (entry := _entry(item))]
            except FileNotFoundError:
                return []
        return sorted(entries, key=lambda entry: entry.name)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a file's bytes from ``offset``; raises NotInStore."""
        with self._store_errors("read", path), self._resolve(path).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def sha256(self, path: str, passed: Sent = silent) -> str:
        """Return the sha256 of a file's content; reads all of it."""
        with self._store_errors("read", path):
            return chunked_io.sha256(self._resolve(path), passed)

    def write(
        self, path: str, source: Source, *, sha256: str = "", overwrite: bool = True, sent: Sent = silent
    ) -> str:
        """Write a whole file under a temporary name, read it again, then rename it; return its sha256."""
        check_path(path)
        folder, _, _ = path.rpartition("/")
        temporary = join(folder, temp_files.temp_name())
        try:
            with self._store_errors("write", path):
                self._check_inside_root(folder)
                with self._resolve(temporary).open("xb") as file:
                    written = chunked_io.copy(source, file.write, name=path, expected=sha256, sent=sent)
                if self.sha256(temporary, lambda _: sent(0)) != written:
                    raise StoreError(
                        f"{path} did not arrive as it was sent: its sha256 is not {written}.",
                        next_step="check the disk of the share, then run the step again",
                    )
                self.rename(temporary, path, overwrite=overwrite)
        finally:
            with suppress(OSError):  # the next sync of this folder deletes what remains
                self._resolve(temporary).unlink()
        return written

    def rename(self, old: str, new: str, *, overwrite: bool = False) -> None:
        """Rename a file atomically; without ``overwrite`` exactly one of many callers succeeds."""
        source, target = self._resolve(old), self._resolve(new)
        with self._store_errors("rename", old, new):
            self._check_inside_root(new.rpartition("/")[0])
            if overwrite:
                source.replace(target)
            else:
                rename_exclusively(source, target)

    def delete(self, path: str) -> None:
        """Delete a file; a missing file is not an error."""
        with self._store_errors("delete", path):
            self._check_inside_root(path.rpartition("/")[0])
            self._resolve(path).unlink(missing_ok=True)

    def make_folder(self, path: str) -> None:
        """Create one folder; an existing one is not an error."""
        with self._store_errors("make the folder", path):
            self.root.mkdir(parents=True, exist_ok=True)
            self._check_inside_root(path.rpartition("/")[0])
            self._resolve(path).mkdir(exist_ok=True)

    def delete_folder(self, path: str, passed: Sent = silent) -> None:
        """Delete a folder and its content; a missing folder is not an error. Of a link only the link."""
        target = self._resolve(path)
        if target == self.root:
            raise StoreError("The root of a store cannot be deleted.", next_step="name a folder below it")
        with self._store_errors("delete the folder", path):
            self._check_inside_root(path.rpartition("/")[0])
            if target.is_symlink():
                target.unlink()
            elif target.exists():
                passed(0)
                shutil.rmtree(target)

    def _resolve(self, path: str) -> Path:
        return self.root / check_path(path, folder=True)

    def _check_inside_root(self, folder: str) -> None:
        """Refuse a change in a folder that a link leads out of the root."""
        real = Path(os.path.realpath(self._resolve(folder)))
        if not real.is_relative_to(os.path.realpath(self.root)):
            raise StoreError(
                f"{folder} leads out of the share, to {real}.",
                next_step="replace the link in the share's folder by a plain folder",
            )

    @contextmanager
    def _store_errors(self, action: str, path: str, new_path: str = "") -> Generator[None]:
        try:
            yield
        except StoreError:
            raise
        except FileExistsError as error:
            existing = new_path or path
            raise AlreadyExists(
                f"{existing} already exists.", next_step="choose another name", path=existing
            ) from error
        except OSError as error:
            message = f"Could not {action} {path or 'the root'} in {self.root}: {error.strerror or error}."
            if isinstance(error, FileNotFoundError):
                raise NotInStore(message, next_step="list the folder", path=path) from error
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            step = "free space on that disk" if is_full else "check the permissions of that folder"
            raise StoreError(message, next_step=f"{step}, then run the step again") from error


def check_path(path: str, *, folder: bool = False) -> str:
    """Return a path that stays below the root unchanged; "" is the root, valid only for a ``folder``."""
    if path == "" and folder:
        return path
    if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path or "\0" in path:
        raise StoreError(
            f"{path!r} is not a path in a file store.",
            next_step="use a relative path with / and without . or .. in it",
        )
    return path


def join(folder: str, name: str) -> str:
    """Return the path of a name in a folder; either may be "", the root and the folder itself."""
    return f"{folder}/{name}" if folder and name else folder or name


def make_folders(store: FileStore, path: str) -> None:
    """Create a folder and those above it, one request each."""
    parts = path.split("/") if path else []
    for end in range(1, len(parts) + 1):
        store.make_folder("/".join(parts[:end]))


def sweep(store: FileStore, folder: str) -> list[Entry]:
    """List a folder and delete the temporary files of killed writers; return the rest."""
    rest: list[Entry] = []
    for entry in store.list(folder):
        if temp_files.is_abandoned(entry.name):
            store.delete(join(folder, entry.name))
        else:
            rest.append(entry)
    return rest


def rename_exclusively(source: Path, target: Path) -> None:
    """Rename a local file, or raise FileExistsError; of many callers exactly one succeeds.

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
        # Without hard links (exFAT, some network mounts) the name is created empty, then replaced;
        # a reader in between finds an empty file.
        with target.open("xb"):
            pass
        source.replace(target)
        return
    source.unlink()


def _entry(item: os.DirEntry[str]) -> Entry | None:
    try:
        if item.is_dir():
            return Entry(item.name, is_folder=True)
        about = item.stat()
    except FileNotFoundError:
        return None  # a dangling link, or a file that another writer has just renamed
    version = f"{about.st_ino}-{about.st_mtime_ns}"
    return Entry(item.name, is_folder=False, size=about.st_size, version=version)
