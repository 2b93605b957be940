"""The forms of the steps on Azure: provision, scale, secrets and teardown."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.operate import (
    ScaleSettings,
    SecretPut,
    SecretSettings,
    Teardown,
    TeardownSettings,
    put_secret,
    scale,
    teardown,
)
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import Provision, ProvisionSettings, blockers, provision
from nbtoolkit.provisioning.discovery import ProvisionStatus, status
from nbtoolkit.provisioning.provision import TARGET
from nbtoolkit.target import TargetStatus
from nbtoolkit.widgets.forms import Form
from nbtoolkit.workspace import Workspace

if TYPE_CHECKING:
    from nbtoolkit.azure.target import AzureTarget

_MAIN_FIELDS = (
    "subscription",
    "resource_group",
    "create_resource_group",
    "location",
    "gpu",
    "engine",
    "max_replicas",
)
_LISTED_FIELDS = ("subscription", "resource_group", "location")
"""Fields whose values are listed by Azure."""


class ProvisionForm(Form[ProvisionSettings, Provision]):
    """Plan, then provision; headless, ``result()`` is :func:`nbtoolkit.provisioning.provision`.

    The initial values come from the files of the workspace. Subscriptions, resource groups and regions are
    suggested while the user types. A deployment that is already running, also one that another kernel
    started, is resumed when the form opens. Nothing that costs money is created before Apply, or without
    ``apply``.
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
        initial = (settings or ProvisionSettings()).completed(self.workspace)
        self._set_by_caller = initial.model_fields_set
        super().__init__(
            initial,
            self._provision,
            step="Provision",
            workspace=self.workspace,
            target=TARGET,
            blockers=self._provision_blockers,
            suggestions={name: partial(self._current_value, name) for name in _LISTED_FIELDS},
            advanced=[name for name in ProvisionSettings.model_fields if name not in _MAIN_FIELDS],
            status=self._status,
            needs_apply=True,
            apply=apply,
        )

    def _build_view(self) -> Any:
        from nbtoolkit.widgets.provision_view import ProvisionView

        return ProvisionView(self, self.cloud)

    def _provision_blockers(self, settings: ProvisionSettings) -> list[str]:
        return blockers(settings.completed(self.workspace))

    def _provision(
        self, settings: ProvisionSettings, *, progress: Progress, apply: bool = False
    ) -> Provision:
        defaults = ProvisionSettings()
        unchosen = {  # a form sets every field: an unchosen default must not override the value of the app
            name
            for name in settings.model_fields_set - self._set_by_caller
            if getattr(settings, name) == getattr(defaults, name)
        }
        chosen = settings.without(unchosen)
        return provision(chosen, apply=apply, workspace=self.workspace, cloud=self.cloud, progress=progress)

    def _status(self) -> ProvisionStatus:
        """Return what is provisioned; start the form's run if a deployment is running in Azure."""
        settings = self.state.validate().settings
        provisioned = status(settings or ProvisionSettings(), self.workspace, self.cloud)
        if provisioned.running is not None and self.current_run is None and settings is not None:
            self.start()
        return provisioned

    def _current_value(self, name: str) -> list[str]:
        return [str(self.state.input_value(name))]


class ScaleForm(Form[ScaleSettings, TargetStatus]):
    """Set the minimum and maximum number of replicas, and stop or start the app.

    The initial values are those of the app.
    """

    def __init__(self, target: AzureTarget, settings: ScaleSettings | None = None) -> None:
        super().__init__(
            settings or _current_scale(target),
            partial(scale, target=target),
            step="Scale",
            workspace=target.workspace,
            target=target.name,
            advanced=["allow_downtime"],
            status=target.status,
            run_label="Set limits",
        )


def _current_scale(target: AzureTarget) -> ScaleSettings:
    """Return the limits of the app; the defaults if Azure refuses, because a run reports that error."""
    try:
        app = target.app.get()
    except NbtoolkitError:
        return ScaleSettings()
    return ScaleSettings(minimum=app.min_replicas, maximum=app.max_replicas, running=not app.stopped)


class SecretForm(Form[SecretSettings, SecretPut]):
    """Add or replace one secret of the app; its value is never sent back to the notebook."""

    def __init__(self, target: AzureTarget, settings: SecretSettings | None = None) -> None:
        super().__init__(
            settings or SecretSettings,
            partial(put_secret, target=target),
            step="Put a secret",
            workspace=target.workspace,
            target=target.name,
            advanced=["allow_downtime"],
            run_label="Put secret",
        )


class TeardownForm(Form[TeardownSettings, Teardown]):
    """Delete the app, or all that this workspace created; without the app's name, show the plan."""

    def __init__(self, target: AzureTarget, settings: TeardownSettings | None = None) -> None:
        super().__init__(
            settings or TeardownSettings,
            partial(teardown, workspace=target.workspace, cloud=target.cloud),
            step="Tear down",
            workspace=target.workspace,
            target=target.name,
        )

    def run_button(self) -> tuple[str, str]:
        """Return label and style of the button, which show if the current values delete anything."""
        deletes = bool(self.state.input_value("confirm_name").strip())
        return ("Delete", "danger") if deletes else ("Show plan", "primary")
