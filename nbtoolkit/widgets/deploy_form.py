"""The form of a deploy."""

from __future__ import annotations

from functools import partial

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.deployment import Deployment, DeploySettings, deploy
from nbtoolkit.deployment.hash_cache import use_cached_sha256
from nbtoolkit.deployment.smoke_gate import check_smoke_reports
from nbtoolkit.errors import InvalidSettings, NbtoolkitError, SmokeTestFailed
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.share_models import share_path
from nbtoolkit.progress import Progress
from nbtoolkit.smoke.workflow import smoke_test
from nbtoolkit.target import Target
from nbtoolkit.target_factory import resolve_target
from nbtoolkit.widgets.forms import Form, SecondaryAction
from nbtoolkit.widgets.html import muted_line
from nbtoolkit.widgets.model_picker import adapter_lines, base_folders
from nbtoolkit.workspace import Workspace

_MAIN_FIELDS = ("adapters", "base", "target", "server")


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
        main_fields = [name for name in _MAIN_FIELDS if target is None or name != "target"]
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
        adapters = {name: Adapter.read(workspace.path(folder)) for name, folder in settings.adapters.items()}
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
    """Return why the base or an adapter on this machine cannot be read; empty if they can."""
    blockers: list[str] = []
    try:
        if not share_path(settings.base):
            Base.resolve(settings.base, workspace)
    except NbtoolkitError as error:
        blockers.append(error.message)
    for name, folder in settings.adapters.items():
        if share_path(folder):
            continue
        try:
            Adapter.read(workspace.path(folder))
        except NbtoolkitError as error:
            blockers.append(f"{name}: {error.message}")
    return blockers
