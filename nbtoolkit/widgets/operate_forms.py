"""The forms that look after what runs on Azure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

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
from nbtoolkit.widgets.forms.form import Form

if TYPE_CHECKING:
    from nbtoolkit.azure.target import AzureTarget


class ScaleForm(Form[ScaleSettings, TargetStatus]):
    """Set how many replicas there may be, and stop or start the app; starts from how that is now."""

    def __init__(self, target: AzureTarget, settings: ScaleSettings | None = None) -> None:
        super().__init__(
            settings or _present(target),
            partial(scale, target=target),
            step="Scale",
            workspace=target.workspace,
            target=target.name,
            folded=["allow_downtime"],
            standing=target.status,
            action="Set limits",
        )


def _present(target: AzureTarget) -> ScaleSettings:
    """Return the app's limits as they are; the defaults where Azure does not tell, which a run would."""
    try:
        now = target.app.get()
    except NbtoolkitError:
        return ScaleSettings()
    return ScaleSettings(minimum=now.min_replicas, maximum=now.max_replicas, running=not now.stopped)


class SecretForm(Form[SecretSettings, SecretPut]):
    """Add or replace one secret of the app; its value never comes back to the notebook."""

    def __init__(self, target: AzureTarget, settings: SecretSettings | None = None) -> None:
        super().__init__(
            settings or SecretSettings,
            partial(put_secret, target=target),
            step="Put a secret",
            workspace=target.workspace,
            target=target.name,
            folded=["allow_downtime"],
            action="Put secret",
        )


class TeardownForm(Form[TeardownSettings, Teardown]):
    """Delete the app, or all that this workspace created: the plan first, then with the app's name."""

    def __init__(self, target: AzureTarget, settings: TeardownSettings | None = None) -> None:
        super().__init__(
            settings or TeardownSettings,
            partial(teardown, workspace=target.workspace, cloud=target.cloud),
            step="Tear down",
            workspace=target.workspace,
            target=target.name,
        )

    @property
    def view(self) -> Any:
        """The form's widgets, built on first use."""
        if self._view is None:
            from nbtoolkit.widgets.teardown_view import TeardownView

            self._view = TeardownView(self)
        return self._view
