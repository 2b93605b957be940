"""An Azure file share as a file store: concurrent requests, every range verified."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, TypeVar

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files.client import Request, ShareConnection, read_chunks
from nbtoolkit.azure.files.request_limits import DEFAULT_LIMITS, MAX_REQUESTS, ShareLimits, map_in_order
from nbtoolkit.azure.files.upload import upload_file
from nbtoolkit.errors import AlreadyExists, NotInStore, StoreError
from nbtoolkit.filestore import Entry, check_path, join
from nbtoolkit.filestore.chunked_io import Source
from nbtoolkit.progress import Sent, silent

T = TypeVar("T")


class AzureShare:
    """The provisioned file share as a :class:`~nbtoolkit.filestore.FileStore`.

    Uses a token if the user has the role, else the account's key. Transient failures are retried after the
    pause that the service requests. Running uploads use at most 64 MiB of memory.
    Raises StoreError naming cause and next step, and NotSignedIn.
    """

    parallel = 32
    """Small files cost round trips, not bandwidth."""

    def __init__(
        self, cloud: Cloud, provisioned: ResourceNames, limits: ShareLimits = DEFAULT_LIMITS
    ) -> None:
        self._connection = ShareConnection.shared(cloud, provisioned, limits)

    def __repr__(self) -> str:
        return f"AzureShare({self._connection.description})"

    def list(self, folder: str) -> list[Entry]:
        """Return the entries of one folder by name; [] if it is missing. One request for each 5,000."""
        check_path(folder, folder=True)
        try:
            # The SDK types entries as a union; only is_directory distinguishes them.
            found: list[Any] = self._connection.call(
                "list",
                folder,
                lambda share: [
                    *share.list_directories_and_files(folder, include=["Etag"], include_extended_info=True)
                ],
            )
        except NotInStore:
            return []
        entries = (
            Entry(item.name, is_folder=True)
            if item.is_directory
            else Entry(item.name, is_folder=False, size=item.size, version=item.etag or "")
            for item in found
        )
        return sorted(entries, key=lambda entry: entry.name)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a file's bytes from ``offset``; raises NotInStore. One request for each 4 MiB."""
        with closing(read_chunks(self._connection, check_path(path), offset, length, silent)) as found:
            return b"".join(found)

    def sha256(self, path: str, passed: Sent = silent) -> str:
        """Return the sha256 of a file's content; reads all of it."""
        digest = hashlib.sha256()
        with closing(read_chunks(self._connection, check_path(path), 0, None, passed)) as found:
            for piece in found:
                digest.update(piece)
                passed(len(piece))
        return digest.hexdigest()

    def write(
        self, path: str, source: Source, *, sha256: str = "", overwrite: bool = True, sent: Sent = silent
    ) -> str:
        """Write a whole file under a temporary name, each range checked by MD5, then rename it.

        Two requests up to 4 MiB; above that one for each 4 MiB and three more. Resumes an interrupted
        write of the same content.
        """
        return upload_file(self._connection, check_path(path), source, sha256, overwrite, sent)

    def rename(self, old: str, new: str, *, overwrite: bool = False) -> None:
        """Rename a file atomically; without ``overwrite`` exactly one of many callers succeeds."""
        self._connection.rename(check_path(old), check_path(new), overwrite=overwrite)

    def delete(self, path: str) -> None:
        """Delete a file; a missing file is not an error."""
        self._delete("delete", check_path(path), lambda share: share.get_file_client(path).delete_file())

    def make_folder(self, path: str) -> None:
        """Create one folder; an existing one is not an error. Raises NotInStore if its parent is missing."""
        check_path(path, folder=True)
        if path == "":
            return  # the share itself is provisioned
        with suppress(AlreadyExists):
            self._connection.call("create the folder", path, lambda share: share.create_directory(path))

    def delete_folder(self, path: str, passed: Sent = silent) -> None:
        """Delete a folder and its content; one request per file and two per folder, many at a time."""
        if check_path(path, folder=True) == "":
            raise StoreError("The root of a store cannot be deleted.", next_step="name a folder below it")
        levels, files = [[path]], list[str]()
        while levels[-1]:
            found = _map_all(self.list, levels[-1], passed)
            inside = [
                (join(f, e.name), e) for f, entries in zip(levels[-1], found, strict=True) for e in entries
            ]
            files += [name for name, entry in inside if not entry.is_folder]
            levels.append([name for name, entry in inside if entry.is_folder])
        _map_all(self.delete, files, passed)
        for level in reversed(levels):
            _map_all(self._delete_empty, level, passed)

    def _delete_empty(self, path: str) -> None:
        self._delete("delete the folder", path, lambda share: share.delete_directory(path))

    def _delete(self, action: str, path: str, request: Request[None]) -> None:
        with suppress(NotInStore):
            self._connection.call(action, path, request)


def _map_all(function: Callable[[str], T], paths: list[str], passed: Sent) -> list[T]:
    """Return ``function(path)`` for every path; the first error or a cancel starts no more calls."""
    with closing(map_in_order(function, paths, threading.Event(), passed, ahead=MAX_REQUESTS)) as found:
        return [*found]
