"""An Azure file share as a file store: what is sent or read goes in ranges, many at once, each checked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files import download as share_read
from nbtoolkit.azure.files import upload as share_upload
from nbtoolkit.azure.files.client import ShareAccess
from nbtoolkit.azure.files.concurrency import REQUESTS, in_order
from nbtoolkit.azure.files.rename import rename
from nbtoolkit.errors import AlreadyExists, NotInStore, StoreError
from nbtoolkit.filestore import Entry
from nbtoolkit.filestore.chunked_io import Source
from nbtoolkit.filestore.paths import check_path, join
from nbtoolkit.progress import Sent, silent

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.files.retry_policy import RetryState

T = TypeVar("T")


class AzureShare:
    """The file share of what was provisioned, as a :class:`~nbtoolkit.filestore.FileStore`.

    Uses a token where the role is there, else the account's key. Requests that fail for a while are
    repeated as the service asks. What is on its way takes 64 MiB of memory at most.
    Raises StoreError naming cause and next step, and NotSignedIn.
    """

    parallel = 32
    """Small files cost round trips, not bandwidth."""

    def __init__(self, cloud: Cloud, provisioned: ResourceNames) -> None:
        self._access = ShareAccess.of(cloud, provisioned)

    def __repr__(self) -> str:
        return f"AzureShare({self._access.where})"

    def list(self, folder: str) -> list[Entry]:
        """Return the entries of one folder by name; [] if it is missing. One request for each 5,000."""
        check_path(folder, folder=True)

        def request(share: ShareClient, tries: RetryState) -> list[Any]:
            # The SDK types entries as folders or files and tells them apart by a field only.
            found = share.list_directories_and_files(
                folder, include=["Etag"], include_extended_info=True, tries=tries
            )
            return [*found]

        try:
            found = self._access.ask("list", folder, request)
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
        with closing(share_read.pieces(self._access, check_path(path), offset, length, silent)) as found:
            return b"".join(found)

    def sha256(self, path: str, passed: Sent | None = None) -> str:
        """Return the sha256 of a file's content; reads it all."""
        passed = passed or silent
        digest = hashlib.sha256()
        with closing(share_read.pieces(self._access, check_path(path), 0, None, passed)) as found:
            for piece in found:
                digest.update(piece)
                passed(len(piece))
        return digest.hexdigest()

    def write(
        self,
        path: str,
        source: Source,
        *,
        sha256: str | None = None,
        overwrite: bool = True,
        sent: Sent | None = None,
    ) -> str:
        """Write a whole file under a temporary name, each range checked by MD5, then rename it.

        Two requests up to 4 MiB; beyond that one for each 4 MiB and three more. What was left of an
        interrupted write of the same content is gone on with.
        """
        return share_upload.write(self._access, check_path(path), source, sha256, overwrite, sent)

    def rename(self, old: str, new: str, *, overwrite: bool = False) -> None:
        """Give a file another name in one step; without ``overwrite`` exactly one of many callers wins."""
        rename(self._access, check_path(old), check_path(new), overwrite=overwrite)

    def delete(self, path: str) -> None:
        """Delete a file; one that is missing is no error."""
        check_path(path)
        _unless_missing(
            lambda: self._access.ask(
                "delete", path, lambda share, tries: share.get_file_client(path).delete_file(tries=tries)
            )
        )

    def make_folder(self, path: str) -> None:
        """Make one folder; one that is there is no error. Raises NotInStore if its parent is missing."""
        check_path(path, folder=True)
        if path == "":
            return  # the share itself is provisioned
        try:
            self._access.ask(
                "make the folder", path, lambda share, tries: share.create_directory(path, tries=tries)
            )
        except AlreadyExists:
            return

    def delete_folder(self, path: str, passed: Sent | None = None) -> None:
        """Delete a folder and all below it; a request for each file and two for each folder, many at once."""
        if check_path(path, folder=True) == "":
            raise StoreError("The root of a store is not deleted.", next_step="name a folder below it")
        beat = passed or silent
        levels, files = [[path]], list[str]()
        while levels[-1]:
            found = _at_once(self.list, levels[-1], beat)
            inside = [
                (join(f, e.name), e) for f, entries in zip(levels[-1], found, strict=True) for e in entries
            ]
            files += [name for name, entry in inside if not entry.is_folder]
            levels.append([name for name, entry in inside if entry.is_folder])
        _at_once(self.delete, files, beat)
        for level in reversed(levels):
            _at_once(self._delete_empty, level, beat)

    def _delete_empty(self, path: str) -> None:
        _unless_missing(
            lambda: self._access.ask(
                "delete the folder", path, lambda share, tries: share.delete_directory(path, tries=tries)
            )
        )


def _at_once(function: Callable[[str], T], paths: list[str], beat: Sent) -> list[T]:
    """Return ``function(path)`` for every path; after the first error or a cancel nothing more is begun."""
    with closing(in_order(function, paths, threading.Event(), beat, ahead=REQUESTS)) as found:
        return [*found]


def _unless_missing(request: Callable[[], object]) -> None:
    try:
        request()
    except NotInStore:
        return
