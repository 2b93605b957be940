"""The form of a deploy."""

from __future__ import annotations

from functools import partial

from nbtoolkit.adapter import Adapter
from nbtoolkit.base_model import Base
from nbtoolkit.deployment import Deployment, DeploySettings, deploy, gate
from nbtoolkit.deployment.hashes import recall_sha256
from nbtoolkit.errors import NbtoolkitError, SmokeTestFailed
from nbtoolkit.local import LocalTarget
from nbtoolkit.progress import Progress
from nbtoolkit.smoke import smoke_test
from nbtoolkit.target import Target
from nbtoolkit.widgets import found
from nbtoolkit.widgets.form import Form, Remedy
from nbtoolkit.workspace import Workspace

_SHOWN = ("adapters", "base", "server")


class DeployForm(Form[DeploySettings, Deployment]):
    """Deploy adapters, by default to this machine; headless, ``result()`` is :func:`nbtoolkit.deploy`.

    Shows what the target serves now. Where only the smoke report is missing, a second button runs the smoke
    test first.
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
        shown = target or LocalTarget(self.workspace)
        super().__init__(
            settings or DeploySettings,
            self._deploy,
            step="Deploy",
            workspace=self.workspace,
            target=shown.name,
            blockers=partial(blockers, workspace=self.workspace),
            suggestions={
                "adapters": partial(found.adapter_lines, self.workspace),
                "base": partial(found.base_folders, self.workspace),
            },
            folded=[name for name in DeploySettings.model_fields if name not in _SHOWN],
            standing=shown.status,
            remedy=Remedy("Smoke test, then deploy", self._test_and_deploy, self._only_untested),
        )

    def _deploy(self, settings: DeploySettings, *, progress: Progress) -> Deployment:
        target = self.target or LocalTarget(self.workspace, keep=settings.keep)
        return deploy(settings, target=target, progress=progress)

    def _test_and_deploy(self, settings: DeploySettings, *, progress: Progress) -> Deployment:
        for one in settings.smoke_settings():
            smoke_test(one, progress=progress, workspace=self.workspace).raise_for_failure()
        return self._deploy(settings, progress=progress)

    def _only_untested(self, settings: DeploySettings) -> bool:
        return (
            settings.server == "nbtoolkit"
            and settings.report is None
            and not unreadable(settings, self.workspace)
        )


def blockers(settings: DeploySettings, workspace: Workspace) -> list[str]:
    """Return what keeps these settings from being deployed; reads headers and reports, starts nothing.

    A large adapter's hash is computed the first time and remembered.
    """
    if settings.server == "own":
        folder = workspace.path("inference")
        return [] if folder.is_dir() else [f"Your own server is looked for in {folder}, which is no folder."]
    missing = unreadable(settings, workspace)
    if missing:
        return missing
    try:
        base = Base.resolve(settings.base, workspace)
        adapters = {name: Adapter.read(workspace.path(folder)) for name, folder in settings.adapters.items()}
        for adapter in adapters.values():
            recall_sha256(adapter, workspace)
        gate.check(settings, workspace, base, adapters, Progress())
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
    """Return why the base or an adapter cannot be read, nothing where they can."""
    sentences: list[str] = []
    try:
        Base.resolve(settings.base, workspace)
    except NbtoolkitError as error:
        sentences.append(error.message)
    for name, folder in settings.adapters.items():
        try:
            Adapter.read(workspace.path(folder))
        except NbtoolkitError as error:
            sentences.append(f"{name}: {error.message}")
    return sentences
