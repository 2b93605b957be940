"""The form of a provision."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbtoolkit.azure.clients import Cloud
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import Provision, ProvisionSettings, blockers, provision
from nbtoolkit.provisioning.provision import TARGET
from nbtoolkit.provisioning.status import Standing, status
from nbtoolkit.widgets.forms.form import Form
from nbtoolkit.workspace import Workspace

_SHOWN = (
    "subscription",
    "resource_group",
    "create_resource_group",
    "location",
    "gpu",
    "engine",
    "max_replicas",
)
PICKED = ("subscription", "resource_group", "location")


class ProvisionForm(Form[ProvisionSettings, Provision]):
    """Plan, then provision; headless, ``result()`` is :func:`nbtoolkit.provisioning.provision`.

    What the workspace's files have chosen is filled in. Subscriptions, resource groups and regions are
    listed while somebody types. A deployment that runs already, also one of a kernel that is gone, is taken
    up when the form opens. Nothing that costs money is created before Apply, or without ``apply``.
    """

    def __init__(
        self,
        settings: ProvisionSettings | None = None,
        *,
        workspace: Workspace | None = None,
        cloud: Cloud | None = None,
        apply: bool = False,
    ) -> None:
        self.workspace = workspace or Workspace.find()
        self.cloud = cloud or Cloud.shared()
        self._given = (settings or ProvisionSettings()).completed(self.workspace).model_fields_set
        super().__init__(
            (settings or ProvisionSettings()).completed(self.workspace),
            self._provision,
            step="Provision",
            workspace=self.workspace,
            target=TARGET,
            blockers=partial(_blockers, self.workspace),
            suggestions={name: partial(self._known, name) for name in PICKED},
            folded=[name for name in ProvisionSettings.model_fields if name not in _SHOWN],
            standing=self._look_around,
            costs=True,
            apply=apply,
        )

    @property
    def view(self) -> Any:
        """The form's widgets, built on first use."""
        if self._view is None:
            from nbtoolkit.widgets.provision_view import ProvisionView

            self._view = ProvisionView(self)
        return self._view

    def _provision(
        self, settings: ProvisionSettings, *, progress: Progress, apply: bool = False
    ) -> Provision:
        plain = ProvisionSettings()
        untouched = {  # a form fills in every field: what an app has rules over a default that nobody chose
            name
            for name in settings.model_fields_set - self._given
            if getattr(settings, name) == getattr(plain, name)
        }
        asked = settings.without(untouched)
        return provision(asked, apply=apply, workspace=self.workspace, cloud=self.cloud, progress=progress)

    def _look_around(self) -> Standing:
        """Return where things stand; a deployment that runs in Azure is taken up by the form."""
        checked = self.draft.check()
        settings = checked.settings or ProvisionSettings()
        found = status(settings, self.workspace, self.cloud)
        if found.running is not None and self.operation is None and checked.settings is not None:
            self.start()
        return found

    def _known(self, name: str) -> list[str]:
        return [str(self.draft.shown(name))]


def _blockers(workspace: Workspace, settings: ProvisionSettings) -> list[str]:
    return blockers(settings.completed(workspace))
