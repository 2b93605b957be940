"""Check the states of the subscription, its resource providers and the existing resources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbtoolkit.azure.arm.existing_resources import Body
from nbtoolkit.azure.arm.resource_providers import ResourceProvider
from nbtoolkit.azure.arm.subscriptions import USABLE
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.errors import AzureFailed
from nbtoolkit.provisioning.checks import Preflight

_NO_ACCESS = (400, 403, 404)
"""Status codes for a subscription that does not exist or that the user may not read."""
_TYPES = {
    "Microsoft.App": "managedEnvironments",
    "Microsoft.Storage": "storageAccounts",
    "Microsoft.OperationalInsights": "workspaces",
}
_DONE = ("", "Succeeded")


def check_subscription_state(found: Preflight, answer: Any) -> None:
    """Block if the subscription is missing or disabled; ``answer`` is its model, None or an error."""
    settings = found.settings
    if isinstance(answer, AzureFailed) and answer.status not in _NO_ACCESS:
        found.warn(not_checked(answer))
    elif answer is None or isinstance(answer, AzureFailed):
        found.block(
            f"The subscription {settings.subscription} does not exist, or your account may not read it: "
            "choose one from the list, or sign in with an account that may."
        )
    else:
        state = str(getattr(answer.state, "value", answer.state))
        found.facts["subscription"] = f"{answer.display_name} ({settings.subscription})"
        if state not in USABLE:
            found.block(
                f"The subscription {answer.display_name} is {state.lower()}, so nothing can be created in "
                "it: choose another one, or enable it in the portal."
            )


def check_providers(found: Preflight, providers: Sequence[ResourceProvider]) -> None:
    """Block if the region lacks a provider, or if one is not registered and must not be."""
    location = found.settings.location
    missing = [
        one.namespace
        for one in providers
        if location and one.offers(_TYPES[one.namespace], location) is False
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        found.block(
            f"{', '.join(missing)} {verb} not available in {location}: choose another region, such as "
            "westus3 or swedencentral."
        )
    found.unregistered = unregistered = tuple(one.namespace for one in providers if not one.registered)
    if unregistered and not found.settings.register_providers:
        commands = "; ".join(f"az provider register -n {namespace}" for namespace in unregistered)
        found.block(
            f"The subscription is not registered with {', '.join(unregistered)}: set register_providers, or "
            f"run {commands}. It costs nothing and takes about a minute."
        )
    elif providers:
        found.facts["providers"] = (
            f"{', '.join(unregistered)} will be registered" if unregistered else "all registered"
        )


def check_resources(found: Preflight) -> None:
    """Block if Azure still changes the environment or the app, or if the environment failed."""
    existing, names = found.existing, found.existing.names
    group = "will be created" if existing.group is None else "exists"
    found.facts["resource group"] = f"{names.resource_group} {group}"
    found.facts["region"] = found.settings.location or "that of the resource group"
    found.facts["environment"] = _plan(names.environment, existing.environment, "exists and is not changed")
    found.facts["app"] = _plan(names.app, existing.app, "exists")
    environment = EnvironmentState(existing.environment or {})
    for kind, name, state in (
        ("environment", names.environment, environment.provisioning_state),
        ("app", names.app, AppState(existing.app or {}).provisioning_state),
    ):
        if state == "Failed" and kind == "app":
            found.warn(f"The last change of the app {name} failed; provisioning applies it again.")
        elif state not in _DONE:
            found.block(
                f"The {kind} {name} is in the state {state}: wait until Azure has finished; if the state is "
                "Failed, look at it in the portal or choose another name."
            )
    if environment.network.get("internal"):
        found.warn(
            f"The environment {names.environment} is internal: the endpoint can be reached only from its "
            "virtual network. Deploy and chat from there, or choose another environment_name."
        )


def not_checked(error: AzureFailed) -> str:
    """Return the warning for a query that Azure refused."""
    return f"{error.message} That was not checked; {error.next_step}."


def _plan(name: str, body: Body | None, existing: str) -> str:
    return f"{name} {'will be created' if body is None else existing}"
