"""The form of a deploy."""

from __future__ import annotations

from functools import partial

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.deployment import Deployment, DeploySettings, deploy, smoke_gate
from nbtoolkit.deployment.hash_cache import use_cached_sha256
from nbtoolkit.errors import InvalidSettings, NbtoolkitError, SmokeTestFailed
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.share_models import share_path
from nbtoolkit.progress import Progress
from nbtoolkit.smoke import smoke_test
from nbtoolkit.target import Target
from nbtoolkit.target_factory import resolve_target
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets import model_picker as found
from nbtoolkit.widgets.forms.form import Form, SecondaryAction
from nbtoolkit.workspace import Workspace

_SHOWN = ("adapters", "base", "target", "server")


class DeployForm(Form[DeploySettings, Deployment]):
    """Deploy adapters to this machine or to Azure; headless, ``result()`` is :func:`nbtoolkit.deploy`.

    The settings say where, unless a ``target`` is given. Shows what the target serves now. Where only the
    smoke report is missing, a second button runs the smoke test first.
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
        shown = [name for name in _SHOWN if target is None or name != "target"]
        super().__init__(
            settings or DeploySettings,
            self._deploy,
            step="Deploy",
            workspace=self.workspace,
            target=target.name if target else settings.target if settings else "local",
            blockers=self._blocking,
            suggestions={
                "adapters": partial(found.adapter_lines, self.workspace),
                "base": partial(found.base_folders, self.workspace),
            },
            folded=[name for name in DeploySettings.model_fields if name not in shown],
            standing=self._standing,
            remedy=SecondaryAction("Smoke test, then deploy", self._test_and_deploy, self._only_untested),
        )

    def _place(self, settings: DeploySettings | None) -> Target:
        """Return where these settings lead; while they are incomplete, this machine."""
        place = settings.target if settings else "local"
        keep = settings.keep if settings else None
        return resolve_target(self.target or place, keep=keep, workspace=self.workspace)

    def _deploy(self, settings: DeploySettings, *, progress: Progress) -> Deployment:
        return deploy(settings, target=self._place(settings), progress=progress)

    def _test_and_deploy(self, settings: DeploySettings, *, progress: Progress) -> Deployment:
        for one in settings.smoke_settings():
            smoke_test(one, progress=progress, workspace=self.workspace).raise_for_failure()
        return self._deploy(settings, progress=progress)

    def _standing(self) -> object:
        place = self._place(self.draft.check().settings)
        if place.name == "azure" and unprovisioned(self.workspace):
            return Note("Nothing was provisioned on Azure by this workspace yet.")
        return place.status()

    def _blocking(self, settings: DeploySettings) -> list[str]:
        azure = self._place(settings).name == "azure"
        missing = unprovisioned(self.workspace) if azure else ""
        return [*([missing] if missing else []), *blockers(settings, self.workspace)]

    def _only_untested(self, settings: DeploySettings) -> bool:
        return (
            settings.server == "nbtoolkit"
            and settings.report is None
            and not unreadable(settings, self.workspace)
            and not (self._place(settings).name == "azure" and unprovisioned(self.workspace))
        )


class Note(str):
    """A line that a form shows where a target has no status."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return page.muted(self)


def unprovisioned(workspace: Workspace) -> str:
    """Return why it is not known where this workspace runs on Azure, an empty text where it is."""
    try:
        ResourceNames.read(workspace)
    except InvalidSettings as error:
        return f"{error.message} Next: {error.next_step}."
    return ""


def blockers(settings: DeploySettings, workspace: Workspace) -> list[str]:
    """Return what keeps these settings from being deployed; reads headers and reports, starts nothing.

    A large adapter's hash is computed the first time and remembered.
    """
    if settings.server == "own":
        folder = workspace.path("inference")
        return [] if folder.is_dir() else [f"Your own server is looked for in {folder}, which is no folder."]
    missing = unreadable(settings, workspace)
    if missing or any(share_path(folder) for folder in [settings.base, *settings.adapters.values()]):
        return missing  # what lies on the share is fetched first; the deploy itself asks for its report
    try:
        base = Base.resolve(settings.base, workspace)
        adapters = {name: Adapter.read(workspace.path(folder)) for name, folder in settings.adapters.items()}
        for adapter in adapters.values():
            use_cached_sha256(adapter, workspace)
        smoke_gate.check_smoke_reports(settings, workspace, base, adapters, Progress())
    except SmokeTestFailed as error:
        problems = getattr(error, "problems", None)
        if problems is None:
            return [str(error)]
        return [
            f"No green smoke report for these bytes: run the smoke test. ({problem})" for problem in problems
        ]
    except NbtoolkitError as error:
        return [str(error)]
    return []


def unreadable(settings: DeploySettings, workspace: Workspace) -> list[str]:
    """Return why the base or an adapter of this machine cannot be read, nothing where they can."""
    sentences: list[str] = []
    try:
        if not share_path(settings.base):
            Base.resolve(settings.base, workspace)
    except NbtoolkitError as error:
        sentences.append(error.message)
    for name, folder in settings.adapters.items():
        if share_path(folder):
            continue
        try:
            Adapter.read(workspace.path(folder))
        except NbtoolkitError as error:
            sentences.append(f"{name}: {error.message}")
    return sentences
