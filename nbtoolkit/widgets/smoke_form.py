"""The form of a smoke test."""

from __future__ import annotations

from functools import partial

from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.share_models import share_path
from nbtoolkit.progress import Progress
from nbtoolkit.smoke import SmokeReport, SmokeSettings, smoke_test
from nbtoolkit.widgets import model_picker as found
from nbtoolkit.widgets.forms.form import Form
from nbtoolkit.workspace import Workspace

_SHOWN = ("adapter", "base", "levels")


class SmokeForm(Form[SmokeSettings, SmokeReport]):
    """Smoke-test an adapter on its base; headless, ``result()`` is :func:`nbtoolkit.smoke_test`."""

    def __init__(self, settings: SmokeSettings | None = None, *, workspace: Workspace | None = None) -> None:
        self.workspace = workspace or Workspace.find()
        super().__init__(
            settings or SmokeSettings,
            self._test,
            step="Smoke test",
            workspace=self.workspace,
            blockers=partial(blockers, workspace=self.workspace),
            suggestions={
                "adapter": partial(found.adapter_folders, self.workspace),
                "base": partial(found.base_folders, self.workspace),
            },
            folded=[name for name in SmokeSettings.model_fields if name not in _SHOWN],
            good=lambda report: report.green,
        )

    def _test(self, settings: SmokeSettings, *, progress: Progress) -> SmokeReport:
        return smoke_test(settings, progress=progress, workspace=self.workspace)


def blockers(settings: SmokeSettings, workspace: Workspace) -> list[str]:
    """Return why the smoke test cannot begin; a bad adapter is for the test itself to report.

    What lies on the share is looked for by the test, which fetches it.
    """
    sentences: list[str] = []
    try:
        if not share_path(settings.base):
            Base.resolve(settings.base, workspace)
    except NbtoolkitError as error:
        sentences.append(error.message)
    folder = workspace.path(settings.adapter)
    if not share_path(settings.adapter) and not folder.is_dir():
        sentences.append(f"The adapter {folder} is no folder.")
    return sentences
