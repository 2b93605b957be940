"""The forms of the steps with models: the smoke test and the deploy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.deployment import Deployment, DeploySettings, deploy
from nbtoolkit.deployment.resolve_release import use_cached_sha256
from nbtoolkit.deployment.smoke_gate import check_smoke_reports
from nbtoolkit.errors import InvalidSettings, NbtoolkitError, SmokeTestFailed
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.adapter_resolver import cached_adapter_folder, hub_adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.share_models import share_path
from nbtoolkit.progress import Progress
from nbtoolkit.smoke.golden_prompts import golden_prompts_of
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.smoke.settings import SmokeSettings
from nbtoolkit.smoke.workflow import smoke_test
from nbtoolkit.target import Target
from nbtoolkit.target_factory import resolve_target
from nbtoolkit.widgets.forms import Form, SecondaryAction
from nbtoolkit.widgets.forms.background_run import BackgroundRun
from nbtoolkit.widgets.html import muted_line
from nbtoolkit.workspace import Workspace

_DEPLOY_FIELDS = ("adapters", "base", "target", "server")
_SMOKE_FIELDS = ("adapter", "base", "levels")
_MAX_DEPTH = 5
_MAX_FOLDERS = 4000  # so that a form opens quickly even if the workspace is a home directory
_SKIPPED = {"node_modules", "site-packages", "__pycache__", "venv", "env"}
_GENERIC_NAMES = ("adapter", "checkpoint", "output", "final", "best", "lora")


class SmokeForm(Form[SmokeSettings, SmokeReport]):
    """Smoke-test an adapter on its base; headless, ``result()`` is :func:`nbtoolkit.smoke_test`."""

    def __init__(self, settings: SmokeSettings | None = None, *, workspace: Workspace | None = None) -> None:
        self.workspace = workspace or Workspace.find()
        super().__init__(
            settings or SmokeSettings,
            self._smoke_test,
            step="Smoke test",
            workspace=self.workspace,
            blockers=partial(smoke_blockers, workspace=self.workspace),
            suggestions={
                "adapter": partial(adapter_folders, self.workspace),
                "base": partial(base_folders, self.workspace),
            },
            advanced=[name for name in SmokeSettings.model_fields if name not in _SMOKE_FIELDS],
            is_success=lambda report: report.green,
            recommend=recommended_settings,
        )

    def _smoke_test(self, settings: SmokeSettings, *, progress: Progress) -> SmokeReport:
        return smoke_test(settings, progress=progress, workspace=self.workspace)


def recommended_settings(run: BackgroundRun[Any]) -> dict[str, Any]:
    """Return what the smoke report of an ended run recommends: its result, or that of the failed test."""
    report = run.error.report if isinstance(run.error, SmokeTestFailed) else run.result
    return report.recommended_settings if isinstance(report, SmokeReport) else {}


def smoke_blockers(settings: SmokeSettings, workspace: Workspace) -> list[str]:
    """Return why the smoke test cannot start; the test itself reports an invalid adapter.

    Models on the share or the hub are not checked here, because the test fetches them.
    """
    blockers = base_blockers(settings.base, workspace)
    elsewhere = share_path(settings.adapter) or hub_adapter(settings.adapter, workspace)
    folder = workspace.path(settings.adapter)
    if not elsewhere and not folder.is_dir():
        blockers.append(f"The adapter {folder} is not a folder.")
    try:
        golden_prompts_of(settings, folder, workspace)
    except NbtoolkitError as error:
        blockers.append(error.message)
    return blockers


class DeployForm(Form[DeploySettings, Deployment]):
    """Deploy adapters to this machine or to Azure; headless, ``result()`` is :func:`nbtoolkit.deploy`.

    ``target`` overrides that of the settings. Shows the status of the target. If only the smoke report is
    missing, a second button runs the smoke test first.
    """

    def __init__(
        self,
        settings: DeploySettings | None = None,
        target: Target | None = None,
        *,
        workspace: Workspace | None = None,
    ) -> None:
        self.workspace = workspace or Workspace.find()
        self.target = target
        main_fields = [name for name in _DEPLOY_FIELDS if target is None or name != "target"]
        super().__init__(
            settings or DeploySettings,
            self._deploy,
            step="Deploy",
            workspace=self.workspace,
            target=target.name if target else settings.target if settings else "local",
            blockers=self._deploy_blockers,
            suggestions={
                "adapters": partial(adapter_lines, self.workspace),
                "base": partial(base_folders, self.workspace),
            },
            advanced=[name for name in DeploySettings.model_fields if name not in main_fields],
            status=self._target_status,
            recommend=recommended_settings,
            secondary_action=SecondaryAction(
                "Smoke test, then deploy", self._test_and_deploy, self._lacks_only_report
            ),
        )

    def _target_of(self, settings: DeploySettings | None) -> Target:
        """Return the target of the settings; this machine while they are invalid."""
        name = settings.target if settings else "local"
        keep = settings.keep if settings else None
        return resolve_target(self.target or name, keep=keep, workspace=self.workspace)

    def _deploy(self, settings: DeploySettings, *, progress: Progress) -> Deployment:
        return deploy(settings, target=self._target_of(settings), progress=progress)

    def _test_and_deploy(self, settings: DeploySettings, *, progress: Progress) -> Deployment:
        for smoke_settings in settings.smoke_settings():
            smoke_test(smoke_settings, progress=progress, workspace=self.workspace).raise_for_failure()
        return self._deploy(settings, progress=progress)

    def _target_status(self) -> object:
        target = self._target_of(self.state.validate().settings)
        if target.name == "azure" and config_blocker(self.workspace):
            return StatusNote("This workspace has not provisioned anything on Azure yet.")
        return target.status()

    def _config_blockers(self, settings: DeploySettings) -> list[str]:
        blocker = config_blocker(self.workspace) if self._target_of(settings).name == "azure" else ""
        return [blocker] if blocker else []

    def _deploy_blockers(self, settings: DeploySettings) -> list[str]:
        return [*self._config_blockers(settings), *deploy_blockers(settings, self.workspace)]

    def _lacks_only_report(self, settings: DeploySettings) -> bool:
        return (
            settings.server == "nbtoolkit"
            and settings.report is None
            and not model_blockers(settings, self.workspace)
            and not self._config_blockers(settings)
        )


class StatusNote(str):
    """A line that a form shows if a target has no status."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return muted_line(self)


def config_blocker(workspace: Workspace) -> str:
    """Return why ``inference.config.json`` does not name the app on Azure; an empty text if it does."""
    try:
        ResourceNames.read(workspace)
    except InvalidSettings as error:
        return f"{error.message} Next: {error.next_step}."
    return ""


def deploy_blockers(settings: DeploySettings, workspace: Workspace) -> list[str]:
    """Return why these settings cannot be deployed; reads headers and reports, starts nothing.

    The hash of a large adapter is computed the first time and cached.
    """
    if settings.server == "own":
        folder = workspace.path("inference")
        return [] if folder.is_dir() else [f"The custom server must be in {folder}, which is not a folder."]
    unreadable = model_blockers(settings, workspace)
    if unreadable or any(share_path(folder) for folder in [settings.base, *settings.adapters.values()]):
        return unreadable  # models on the share are fetched first; the deploy itself checks for their report
    try:
        base = Base.resolve(settings.base, workspace)
        found = {name: cached_adapter_folder(text, workspace) for name, text in settings.adapters.items()}
        adapters = {name: Adapter.read(folder) for name, folder in found.items() if folder}
        for adapter in adapters.values():
            use_cached_sha256(adapter, workspace)
        check_smoke_reports(settings, workspace, base, adapters, Progress())
    except SmokeTestFailed as error:
        if not error.problems:
            return [str(error)]
        return [
            f"No green smoke report for these bytes: run the smoke test. ({problem})"
            for problem in error.problems
        ]
    except NbtoolkitError as error:
        return [str(error)]
    return []


def model_blockers(settings: DeploySettings, workspace: Workspace) -> list[str]:
    """Return why the base or an adapter on this machine cannot be read; empty if they can.

    An adapter on the hub that is not downloaded yet is not checked.
    """
    blockers = base_blockers(settings.base, workspace)
    for name, folder in settings.adapters.items():
        try:
            if not share_path(folder) and (local := cached_adapter_folder(folder, workspace)):
                Adapter.read(local)
        except NbtoolkitError as error:
            blockers.append(f"{name}: {error.message}")
    return blockers


def base_blockers(base: str, workspace: Workspace) -> list[str]:
    """Return why a base on this machine cannot be read; empty if it can, or if it is on the share."""
    try:
        if not share_path(base):
            Base.resolve(base, workspace)
    except NbtoolkitError as error:
        return [error.message]
    return []


def adapter_lines(workspace: Workspace) -> list[str]:
    """Return ``name = folder`` for every LoRA folder, relative to the workspace.

    A folder with a generic name such as ``adapter`` gets the name of its parent.
    """
    lines: dict[str, str] = {}
    for folder in adapter_folders(workspace):
        lines.setdefault(_adapter_name(folder), folder)
    return [f"{name} = {folder}" for name, folder in lines.items()]


def adapter_folders(workspace: Workspace) -> list[str]:
    """Return every LoRA folder, relative to the workspace."""
    folders = (folder for folder, files in _walk(workspace) if "adapter_config.json" in files)
    return [folder.relative_to(workspace.root).as_posix() for folder in folders]


def base_folders(workspace: Workspace) -> list[str]:
    """Return every folder of a base model, relative to the workspace, including cached ones."""
    weights = {"model.safetensors", "model.safetensors.index.json"}
    folders = [folder for folder, files in _walk(workspace) if "config.json" in files and weights & files]
    folders += [file.parent for file in sorted(workspace.cache.glob("*/config.json"))]
    return [folder.relative_to(workspace.root).as_posix() for folder in folders]


def _walk(workspace: Workspace) -> Iterator[tuple[Path, set[str]]]:
    for count, (parent, folders, files) in enumerate(os.walk(workspace.root)):
        folder = Path(parent)
        if count > _MAX_FOLDERS:
            return
        deep = len(folder.relative_to(workspace.root).parts) >= _MAX_DEPTH
        folders[:] = [] if deep else sorted(f for f in folders if f not in _SKIPPED and not f.startswith("."))
        yield folder, set(files)


def _adapter_name(folder: str) -> str:
    parts = Path(folder).parts
    specific = [part for part in parts if not part.lower().startswith(_GENERIC_NAMES)]
    return (specific or parts or ("adapter",))[-1]
