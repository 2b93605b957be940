"""Whether an app runs what our template starts, and with an engine that we serve with."""

from __future__ import annotations

from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.errors import InvalidSettings

SERVED_ENGINE = "transformers"
OTHER_ENGINE = (
    "nbtoolkit's server runs the transformers engine only: provision with engine='transformers', or serve "
    "with vLLM from start commands of your own (server='own')."
)


def is_ours(app: AppState) -> bool:
    """Tell whether the app's container starts our bootstrap, which serves whatever is published."""
    return "NBTOOLKIT_MOUNT" in app.environment_variables


def check_ours(app: AppState) -> None:
    """Raise :class:`InvalidSettings` where the app does not run what our template starts, or for vLLM."""
    if not is_ours(app):
        raise InvalidSettings(
            f"The app {app.name} was not made by this toolkit: its container does not start our server, so a "
            "deploy would change nothing that it serves.",
            next_step="run provision(): it updates the app in place, and share, names and secrets stay; or "
            "deploy with server='own', which starts what the app's own template names",
        )
    engine = app.environment_variables.get("NBTOOLKIT_ENGINE") or SERVED_ENGINE
    if engine != SERVED_ENGINE:
        raise InvalidSettings(
            f"The app {app.name} was provisioned with engine={engine!r}, and its image is made for that. "
            + OTHER_ENGINE,
            next_step="provision(ProvisionSettings(engine='transformers')), then deploy again",
        )
