"""The recorded tests of ARM and Container Apps, with their initial state."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.azure_double import AzureDouble

from .allowed_differences import reason_not_called
from .arm_replay import ArmReplay, Comparison
from .azd_scripts import AzdScripts
from .client import Client
from .exchanges import Exchange, by_source, recorded
from .operation_names import exchange_kind

ReplaySession = Callable[[ArmReplay], Iterator[Comparison]]

_GROUP = re.compile(r"/subscriptions/[^/]+/resourcegroups/([^/?]+)", re.IGNORECASE)
_ENVIRONMENT = re.compile(r"(?i)/providers/Microsoft.App/managedEnvironments/([^/?]+)$")
CLI, AZD = "containerapp-cli-2025.jsonl", "arm-deployments-azd-2026.jsonl"

_IN_GROUP = "/resourceGroups/clitest.rg000001/providers/Microsoft.App"
_NEWER = {"name": "containerapp000002", "image": "nginx", "resources": {"cpu": 0.5, "memory": "1Gi"}}
BETWEEN: dict[str, tuple[str, str, Any]] = {
    f"{CLI}:188": (
        "PATCH",
        f"{_IN_GROUP}/containerApps/containerapp000002?api-version=2024-10-02-preview",
        {"properties": {"template": {"containers": [_NEWER]}}},
    ),
    f"{CLI}:143": (
        "PATCH",
        f"{_IN_GROUP}/managedEnvironments/containerapp-env000002?api-version=2024-10-02-preview",
        {"properties": {"appLogsConfiguration": {"destination": None, "logAnalyticsConfiguration": None}}},
    ),
}
"""Unrecorded exchanges on which the recorded one depends."""

REPLACED = {'["npm", "start"]': '["python3", "-m", "http.server", "80"]'}
"""Replacements of programs that this machine does not have."""


def recorded_sessions(folder: Path) -> list[ReplaySession]:
    """Return all sessions; each runs on a new double."""
    told: list[ReplaySession] = [
        (lambda replay, session=session: _cli(replay, session))
        for session in by_source(recorded(folder, CLI))
    ]
    return [*told, *AzdScripts.of(recorded(folder, AZD)).all()]


def replay_session(story: ReplaySession, root: Path) -> list[Comparison]:
    """Replay one session."""
    with AzureDouble(root) as double, Client(double) as client:
        found = [*story(ArmReplay(double, client, REPLACED))]
    assert not double.crashes, "\n".join(double.crashes)
    return found


def _cli(replay: ArmReplay, session: list[Exchange]) -> Iterator[Comparison]:
    """Replay a recorded test of `az containerapp`."""
    replay.double.apps.quota.limits["SubscriptionNCA100Gpus"] = 1
    _prepare_groups(replay, session)
    _prepare_environments(replay, session)
    for exchange in session:
        if exchange.where in BETWEEN:
            replay.prepare(*BETWEEN[exchange.where])
        if not reason_not_called(exchange_kind(exchange)):
            yield replay.replay(exchange)


def _prepare_groups(replay: ArmReplay, session: list[Exchange]) -> None:
    """Create the groups that the test does not create itself."""
    named = {found[1] for exchange in session for found in [_GROUP.search(exchange.path)] if found}
    made = {
        found[1]
        for exchange in session
        for found in [_GROUP.search(exchange.path)]
        if found and exchange.method == "PUT" and "/providers/" not in exchange.path
    }
    for name in sorted(named - made):
        replay.prepare("PUT", f"/resourcegroups/{name}?api-version=2021-04-01", {"location": "eastus"})


def _prepare_environments(replay: ArmReplay, session: list[Exchange]) -> None:
    """Create the environments that a test only reads."""
    met: set[str] = set()
    for exchange in session:
        found = _ENVIRONMENT.search(exchange.path)
        if not found or found[1] in met:
            continue
        met.add(found[1])
        if exchange.method == "GET" and exchange.status == 200:
            path = re.sub(r"(?i)^/subscriptions/[^/]+", "", exchange.path)
            replay.prepare("PUT", f"{path}?api-version=2024-10-02-preview", _environment(exchange.json))


def _environment(shown: dict[str, Any]) -> dict[str, Any]:
    """Return the request body of an environment from its response body."""
    kept = ("workloadProfiles", "vnetConfiguration", "appLogsConfiguration", "zoneRedundant")
    properties = {name: shown["properties"].get(name) for name in kept}
    location = shown["location"].replace(" (Stage)", "").replace(" ", "").lower()
    return json.loads(json.dumps({"location": location, "properties": properties}))
