"""The forms for a running app on Azure: scale, secrets and teardown."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

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
from nbtoolkit.target import TargetStatus
from nbtoolkit.widgets.forms import Form

if TYPE_CHECKING:
    from nbtoolkit.azure.target import AzureTarget


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
        """Return a label and style that tell whether the current values delete anything."""
        deletes = bool(self.state.input_value("confirm_name").strip())
        return ("Delete", "danger") if deletes else ("Show plan", "primary")
