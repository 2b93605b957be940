"""Manifest of the last sync, so that the next one does not read unchanged files again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from nbtoolkit.errors import NotInStore
from nbtoolkit.filestore import Entry, FileStore, make_folders, sweep
from nbtoolkit.serving import share_layout as share

FOLDER = f"{share.ROOT}/synced"


class KnownFile(BaseModel):
    """A file of the store as it was after it was verified."""

    model_config = ConfigDict(frozen=True)

    size: int
    version: str
    sha256: str

    def matches(self, entry: Entry) -> bool:
        """Return whether the file is unchanged since; False if the store has no versions."""
        return bool(self.version) and (self.size, self.version) == (entry.size, entry.version)


class Manifest(BaseModel):
    """The files below one prefix."""

    model_config = ConfigDict(frozen=True)

    prefix: str
    files: dict[str, KnownFile] = {}

    @classmethod
    def read(cls, store: FileStore, prefix: str) -> Manifest:
        """Return the manifest of this prefix; an empty one if it is missing or invalid. One request."""
        try:
            found = cls.model_validate_json(store.read(_path(prefix)))
        except (NotInStore, ValidationError):
            return cls(prefix=prefix)
        return found if found.prefix == prefix else cls(prefix=prefix)

    def save(self, store: FileStore) -> None:
        """Write the manifest; it only saves work, so the last writer wins."""
        if not sweep(store, FOLDER):
            make_folders(store, FOLDER)
        store.write(_path(self.prefix), self.model_dump_json().encode())


def _path(prefix: str) -> str:
    return f"{FOLDER}/{prefix.replace('/', '--')}.json"
