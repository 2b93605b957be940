"""Read published releases from the share and validate every file."""

from __future__ import annotations

import codecs
import hashlib
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .. import share_layout as share
from ..content_hash import adapter_files, folder_sha256
from ..fingerprint import Fingerprint
from ..release import Release, ServedAdapter


class NotServable(Exception):
    """A published release cannot be served, and a retry would not help."""


class NotYetReadable(NotServable):
    """A file is missing or incomplete; on a network mount it may become complete later."""


@dataclass(frozen=True)
class Candidate:
    """A release that a valid pointer names, and the pointer's number."""

    n: int
    release: Release


class PublishedReleases:
    """Reads pointers, releases, adapters and reports. Every method blocks on the file system."""

    def __init__(self, mount: Path) -> None:
        self._mount = mount

    def pointer_numbers(self) -> list[int]:
        """List the pointers' numbers, highest first. Costs one directory listing; no file is opened."""
        try:
            names = [entry.name for entry in (self._mount / share.ACTIVE).iterdir()]
        except FileNotFoundError:
            return []
        return sorted((n for n in map(share.pointer_number, names) if n is not None), reverse=True)

    def read(self, n: int) -> Candidate:
        """Read the n-th pointer and its release; raise NotServable or NotYetReadable."""
        pointer = _parse(share.Pointer, self._mount / share.pointer_path(n), f"pointer {n}")
        if pointer.n != n:
            raise NotServable(f"pointer {n} holds the number {pointer.n}")
        if not pointer.release.startswith("r-") or not pointer.release[2:].isalnum():
            raise NotServable(f"pointer {n} names {pointer.release!r}, which is not a release id")
        label = f"release {pointer.release}"
        release = _parse(Release, self._mount / share.release_path(pointer.release), label)
        if release.id != pointer.release:
            raise NotServable(f"{label} does not match its content, which is {release.id}")
        if release.base is None:
            raise NotServable(f"{label} is for a custom server, not for this one")
        return Candidate(n, release)

    def folder(self, path: str, label: str) -> Path:
        """Return a folder that a release names, absolute or relative to the mount; raise NotYetReadable."""
        folder = self._mount / path
        with _reading(f"the folder of {label}"):  # an OSError is not "not found": the mount itself fails
            exists = folder.is_dir()
        if not exists:
            raise NotYetReadable(f"the folder of {label} is missing: {path}")
        return folder

    def copy_adapter(self, adapter: ServedAdapter, to: Path) -> Path:
        """Copy an adapter to the local disk and check the copy's sha256; return the copy.

        The engine then reads files that no other program writes. Costs two reads, one of them local.
        """
        label = f"adapter {adapter.name!r}"
        with _reading(label):
            source = (self._mount / adapter.path).resolve()
        if not source.is_relative_to(self._mount):
            raise NotServable(f"adapter {adapter.name!r} is outside the share: {adapter.path}")
        target = to / adapter.engine_name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        with _reading(label):
            files = adapter_files(source)
            for name, path in files.items():
                (target / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target / name)
            found = folder_sha256({name: target / name for name in files})
        if not files:
            raise NotYetReadable(f"adapter {adapter.name!r} is missing: {adapter.path}")
        if found != adapter.sha256:
            raise NotServable(
                f"adapter {adapter.name!r} on the share has sha256 {found[:16]}…, "
                f"but the release names {adapter.sha256[:16]}…"
            )
        _remove_byte_order_mark(target / "adapter_config.json")
        return target

    def fingerprint(self, release: Release, adapter: ServedAdapter) -> Fingerprint | None:
        """Return the fingerprint in the adapter's smoke report; None if an override replaces it."""
        sha256 = release.reports.get(adapter.name)
        if sha256 is None:
            if release.override_reason:
                return None
            raise NotServable(f"adapter {adapter.name!r} has no smoke report and no override")
        path, label = self._mount / share.report_path(sha256), f"the smoke report of {adapter.name!r}"
        with _reading(label):
            content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise NotServable(f"{label} has sha256 {found[:16]}…, its name another one")
        try:
            report = _FingerprintReport.model_validate_json(content)
        except ValidationError as error:
            raise NotServable(f"{label} is not readable: {_first(error)}") from None
        if report.fingerprint is None:
            if release.override_reason:
                return None
            raise NotServable(f"{label} holds no fingerprint")
        if report.fingerprint.adapter_sha256 != adapter.sha256:
            raise NotServable(f"{label} is for an adapter with another sha256")
        return report.fingerprint


def _remove_byte_order_mark(config: Path) -> None:
    """Remove the mark that editors on Windows write and that neither peft nor vLLM reads."""
    content = config.read_bytes() if config.is_file() else b""
    if content.startswith(codecs.BOM_UTF8):
        config.write_bytes(content.removeprefix(codecs.BOM_UTF8))


@contextmanager
def _reading(label: str) -> Generator[None]:
    """Raise NotYetReadable for an error of the file system."""
    try:
        yield
    except OSError as error:
        raise NotYetReadable(f"{label} cannot be read: {error}") from None


class _FingerprintReport(BaseModel):
    """The part of a smoke report that the gateway reads."""

    model_config = ConfigDict(extra="ignore")

    fingerprint: Fingerprint | None = None


_Model = TypeVar("_Model", bound=BaseModel)


def _parse(model: type[_Model], path: Path, label: str) -> _Model:
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise NotYetReadable(f"{label} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise NotYetReadable(f"{label} is incomplete or of another version: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
