"""What the last sync left in a folder that changes, so that the next one need not read it all again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from nbtoolkit.errors import NotInStore
from nbtoolkit.filestore import Entry, FileStore, make_folders, sweep
from nbtoolkit.serving import share_layout as share

FOLDER = f"{share.ROOT}/synced"


class KnownFile(BaseModel):
    """A file as it lay on the store after it was verified."""

    model_config = ConfigDict(frozen=True)

    size: int
    version: str
    sha256: str

    def still(self, entry: Entry) -> bool:
        """Tell whether nobody has written the file since; never where the store cannot tell."""
        return bool(self.version) and (self.size, self.version) == (entry.size, entry.version)


class Manifest(BaseModel):
    """The files below one prefix."""

    model_config = ConfigDict(frozen=True)

    prefix: str
    files: dict[str, KnownFile] = {}

    @classmethod
    def read(cls, store: FileStore, prefix: str) -> Manifest:
        """Return what is known; nothing, where there is no readable manifest of this prefix. One request."""
        try:
            found = cls.model_validate_json(store.read(_path(prefix)))
        except (NotInStore, ValidationError):
            return cls(prefix=prefix)
        return found if found.prefix == prefix else cls(prefix=prefix)

    def save(self, store: FileStore) -> None:
        """Write the manifest; it only ever spares work, so the last writer wins."""
        if not sweep(store, FOLDER):
            make_folders(store, FOLDER)
        store.write(_path(self.prefix), self.model_dump_json().encode())


def _path(prefix: str) -> str:
    return f"{FOLDER}/{prefix.replace('/', '--')}.json"
