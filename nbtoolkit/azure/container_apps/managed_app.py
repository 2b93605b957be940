"""Compare a container app with what nbtoolkit's template makes: its server, and what a PUT would drop."""

from __future__ import annotations

from typing import Any

from nbtoolkit.azure.container_apps.models import AppState, Json, variable_name
from nbtoolkit.errors import InvalidSettings

SERVED_ENGINE = "transformers"
OTHER_ENGINE = (
    "nbtoolkit's server supports only the transformers engine: provision with engine='transformers', or run "
    "vLLM with your own start commands (server='own')."
)


def is_managed(app: AppState) -> bool:
    """Return whether the app's container runs nbtoolkit's bootstrap, which serves the published release."""
    return "NBTOOLKIT_MOUNT" in app.environment_variables


def check_managed(app: AppState) -> None:
    """Raise :class:`InvalidSettings` if the app does not run nbtoolkit's template, or runs it for vLLM."""
    if not is_managed(app):
        raise InvalidSettings(
            f"The app {app.name} was not made by this toolkit: its container does not start nbtoolkit's "
            "server, so a deploy would not change what it serves.",
            next_step="run provision(): it updates the app in place and keeps share, names and secrets; or "
            "deploy with server='own', which runs the start commands of the app's own template",
        )
    engine = app.environment_variables.get("NBTOOLKIT_ENGINE") or SERVED_ENGINE
    if engine != SERVED_ENGINE:
        raise InvalidSettings(
            f"The app {app.name} was provisioned with engine={engine!r}, and its image supports only that "
            f"engine. {OTHER_ENGINE}",
            next_step="provision(ProvisionSettings(engine='transformers')), then deploy again",
        )


def unsupported_features(
    app: AppState, secrets: list[dict[str, Any]], registry_identity: str = ""
) -> list[str]:
    """Return the features of an app that nbtoolkit's template has no parameter for, so a PUT drops them.

    ``secrets`` are the app's secrets as Azure lists them; ``registry_identity`` is the id of an identity that
    the template supports.
    """
    traffic: list[Json] = app.ingress.get("traffic") or []
    rules, mode = app.scale_rules, app.configuration.get("activeRevisionsMode")
    foreign_rules = [rule for rule in rules if not _is_plain_http(rule)] or rules[1:]
    vault = [one["name"] for one in secrets if one.get("keyVaultUrl")]
    renamed = [
        one["name"]
        for one in app.first_container.get("env") or ()
        if one.get("secretRef") and one["name"] != variable_name(one["secretRef"])
    ]
    features = {
        "a managed identity": _has_other_identity(app, registry_identity),
        "more than one container": len(app.containers) > 1 or app.template.get("initContainers"),
        "more than one volume": len(app.volumes) > 1,
        "Dapr": (app.configuration.get("dapr") or {}).get("enabled"),
        "more than one registry": len(app.configuration.get("registries") or ()) > 1,
        "several active revisions at once": str(mode or "Single").lower() != "single",
        "traffic to specific revisions": any(not one.get("latestRevision") for one in traffic),
        "revision labels": any(one.get("label") for one in traffic),
        "service bindings": app.template.get("serviceBinds"),
        "a service": app.configuration.get("service"),
        f"custom scale rules ({', '.join(str(rule.get('name')) for rule in foreign_rules)})": foreign_rules,
        f"secrets from a key vault ({', '.join(vault)})": vault,
        f"variables whose names differ from their secrets ({', '.join(renamed)})": renamed,
    }
    return [feature for feature, present in features.items() if present]


def _has_other_identity(app: AppState, registry_identity: str) -> bool:
    identity: Json = app.body.get("identity") or {}
    users = {one.lower() for one in identity.get("userAssignedIdentities") or {}}
    return "SystemAssigned" in str(identity.get("type")) or bool(users - {registry_identity.lower()})


def _is_plain_http(rule: Json) -> bool:
    """Return whether a rule scales only by HTTP requests, as the template's rule does."""
    http: Json = rule.get("http") or {}
    kinds = {kind for kind in ("azureQueue", "custom", "tcp") if rule.get(kind)}
    return bool(http) and not kinds and not http.get("auth") and not http.get("identity")
