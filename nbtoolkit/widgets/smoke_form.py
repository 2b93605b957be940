"""The form of a smoke test."""

from __future__ import annotations

from functools import partial

from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.share_models import share_path
from nbtoolkit.progress import Progress
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.smoke.settings import SmokeSettings
from nbtoolkit.smoke.workflow import smoke_test
from nbtoolkit.widgets.forms import Form
from nbtoolkit.widgets.model_picker import adapter_folders, base_folders
from nbtoolkit.workspace import Workspace

_MAIN_FIELDS = ("adapter", "base", "levels")


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
            advanced=[name for name in SmokeSettings.model_fields if name not in _MAIN_FIELDS],
            is_success=lambda report: report.green,
        )

    def _smoke_test(self, settings: SmokeSettings, *, progress: Progress) -> SmokeReport:
        return smoke_test(settings, progress=progress, workspace=self.workspace)


def smoke_blockers(settings: SmokeSettings, workspace: Workspace) -> list[str]:
    """Return why the smoke test cannot start; the test itself reports an invalid adapter.

    Models on the share are not checked here, because the test fetches them.
    """
    blockers: list[str] = []
    try:
        if not share_path(settings.base):
            Base.resolve(settings.base, workspace)
    except NbtoolkitError as error:
        blockers.append(error.message)
    folder = workspace.path(settings.adapter)
    if not share_path(settings.adapter) and not folder.is_dir():
        blockers.append(f"The adapter {folder} is not a folder.")
    return blockers
