"""Resolve settings into a release and the files that it needs; nothing is sent yet."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbtoolkit.deployment.settings import DeploySettings
from nbtoolkit.deployment.smoke_gate import check_smoke_reports
from nbtoolkit.errors import InvalidSettings, StoreError
from nbtoolkit.infra_files import InfraFiles
from nbtoolkit.models import share_models
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.adapter_resolver import resolve_adapter_folder
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from nbtoolkit.releases.builder import build_release, with_fixed_port
from nbtoolkit.releases.staging import custom_server_sha256
from nbtoolkit.serving.content_hash import code_sha256
from nbtoolkit.serving.release import Release, ServedCode
from nbtoolkit.serving.share_layout import OWN
from nbtoolkit.target import Target, WheelSource
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

_MAX_CACHED_HASHES = 200
_MIN_AGE = 2.0
"""Seconds after a change until another change is sure to alter a file's timestamps."""


@dataclass(frozen=True)
class ResolvedRelease:
    """A release and the local paths of its parts."""

    release: Release
    code: Path
    base: Base | None = None
    adapters: Mapping[str, Adapter] = field(default_factory=dict[str, Adapter])
    reports: Mapping[str, Path] = field(default_factory=dict[str, Path])
    wheels: WheelSource | None = None


def resolve_release(settings: DeploySettings, target: Target, progress: Progress) -> ResolvedRelease:
    """Read base and adapters, check their smoke reports, and build the release.

    Raises the errors of reading them, and :class:`SmokeTestFailed`.
    """
    progress.phase("Reading base and adapters" if settings.server == "nbtoolkit" else "Reading inference/")
    if settings.server == "own":
        return _own(settings, target, progress)
    workspace = target.workspace
    base, base_path = _base(settings, target, progress)
    adapters: dict[str, Adapter] = {}
    share_paths: dict[str, str] = {}
    for name, folder in settings.adapters.items():
        progress.check()
        if path := share_models.share_path(folder):
            share_paths[name] = path
            downloaded = share_models.download_adapter(target.share, path, workspace, progress)
            adapters[name] = Adapter.read(downloaded)
        else:
            adapters[name] = Adapter.read(resolve_adapter_folder(folder, workspace, progress))
        use_cached_sha256(adapters[name], workspace)
    gate = check_smoke_reports(settings, workspace, base, adapters, progress)
    code = publisher.serving_folder()
    wheels = target.wheels(settings.wheels_lock)
    built = build_release(
        base,
        base_path,
        adapters,
        settings.engine,
        code_sha256(code),
        {name: report.sha256 for name, report in gate.reports.items()},
        gate.override_reason,
        wheels.sha256 if wheels else None,
        share_paths,
    )
    return ResolvedRelease(built, code, base, adapters, gate.files, wheels)


def _base(settings: DeploySettings, target: Target, progress: Progress) -> tuple[Base, str]:
    """Return the base model and its path for servers; one on the share is served from there."""
    if path := share_models.share_path(settings.base):
        return share_models.describe_base(target.share, path, target.workspace, progress), path
    base = Base.resolve(settings.base, target.workspace, progress)
    return base, target.base_path(base)


def _own(settings: DeploySettings, target: Target, progress: Progress) -> ResolvedRelease:
    folder = target.workspace.path(OWN)
    if not folder.is_dir():
        raise InvalidSettings(
            f"The folder of your own server, {folder}, does not exist.",
            next_step="put your inference code there, or deploy with server='nbtoolkit'",
        )
    code = ServedCode(
        kind="own",
        sha256=custom_server_sha256(folder),
        commands=_commands(settings, target, progress),
    )
    return ResolvedRelease(Release(base=None, code=code), folder)


def _commands(settings: DeploySettings, target: Target, progress: Progress) -> tuple[str, ...]:
    """Return the start commands of the parameter file, none if the target defines them itself."""
    if run_cancellable(progress, target.has_start_commands):
        return ()
    parameters = InfraFiles(target.workspace).inference_parameters
    commands = parameters.get("defaultCommands")
    if not commands:
        raise InvalidSettings(
            f"{parameters.path} has no defaultCommands, so it is not known how your server starts.",
            next_step='add them, such as ["cd /mount/inference", "python3 ./my_server.py"]',
        )
    return with_fixed_port(commands, settings.own_port)


def use_cached_sha256(adapter: Adapter, workspace: Workspace, *, min_age: float = _MIN_AGE) -> None:
    """Set the adapter's sha256 from the cache if its files are unchanged, else compute and cache it.

    Files are unchanged if size, inode and both timestamps are. Files that are sent are hashed again on
    upload and by the server. Files younger than ``min_age`` seconds are not cached.
    """
    path = workspace.state / "adapter-hashes.json"
    known = _read_hashes(path)
    key, mark = str(adapter.path), _mark(adapter)
    found = known.get(key)
    if found and found.get("mark") == mark:
        adapter.__dict__["sha256"] = found["sha256"]  # where cached_property stores it
        return
    sha256 = adapter.sha256
    newest = max(max(file.stat().st_mtime, file.stat().st_ctime) for file in adapter.files)
    if mark != _mark(adapter) or time.time() - newest < min_age:
        return
    known.pop(key, None)
    known[key] = {"mark": mark, "sha256": sha256}
    with suppress(StoreError):  # a full disk must not fail this deploy
        write_atomically(path, json.dumps(dict(list(known.items())[-_MAX_CACHED_HASHES:])).encode())


def _mark(adapter: Adapter) -> list[list[Any]]:
    stats = [(name, file.stat()) for name, file in sorted(adapter.named_files.items())]
    return [[name, s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns] for name, s in stats]


def _read_hashes(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
