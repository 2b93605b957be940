"""States of container apps for tests."""

from __future__ import annotations

from nbtoolkit.azure.container_apps.models import AppState


def app_state(profile: str | None = None, memory: str = "8Gi", **variables: str) -> AppState:
    """Return an app with these environment variables on a workload profile."""
    env = [{"name": name, "value": value} for name, value in variables.items()]
    template = {"containers": [{"env": env, "resources": {"memory": memory}}]}
    properties = {"environmentId": "/e", "workloadProfileName": profile, "template": template}
    return AppState({"id": "/tones", "name": "tones", "properties": properties})
