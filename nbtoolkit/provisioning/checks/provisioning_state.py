"""In what state the resources are that exist already, and what happens to each."""

from __future__ import annotations

from nbtoolkit.azure.arm.existing_resources import Body, ExistingResources
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.provisioning.checks.findings import Findings

_DONE = ("", "Succeeded")


def check_standing(existing: ExistingResources, location: str) -> Findings:
    """Tell of the group, the environment and the app what they are, and what stands in the way."""
    found, names = Findings(), existing.names
    found.facts["resource group"] = f"{names.resource_group} " + (
        "is created" if existing.group is None else "exists"
    )
    found.facts["region"] = location or "that of the resource group"
    found.facts["environment"] = _words(names.environment, existing.environment)
    found.facts["app"] = _words(names.app, existing.app, "exists")
    for what, name, state in (
        ("environment", names.environment, EnvironmentState(existing.environment or {}).provisioning_state),
        ("app", names.app, AppState(existing.app or {}).provisioning_state),
    ):
        if state == "Failed" and what == "app":
            found.warn(f"The last change of the app {name} failed; provisioning tries to put it right.")
        elif state not in _DONE:
            found.block(
                f"The {what} {name} is in the state {state}: wait until Azure has finished, and where it "
                "says Failed, look at it in the portal or choose another name."
            )
    if EnvironmentState(existing.environment or {}).network.get("internal"):
        found.warn(
            f"The environment {names.environment} is internal: the endpoint is reached only from its virtual "
            "network. Deploy and chat from there, or choose another environment_name."
        )
    return found


def _words(name: str, body: Body | None, there: str = "exists and is kept") -> str:
    return f"{name} {'is created' if body is None else there}"
