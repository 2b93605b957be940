"""Settings, an app and an environment as Azure's JSON, for tests without a request."""

from __future__ import annotations

import json
from typing import Any

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.provisioning import ProvisionSettings

SUBSCRIPTION = "f8ac1ec6-1f11-4d4c-9a63-8fb1e2bb2a90"


def settings(**values: Any) -> ProvisionSettings:
    return ProvisionSettings(**{"subscription": SUBSCRIPTION, "resource_group": "my-rg", **values})


def existing(**found: Any) -> ExistingResources:
    return ExistingResources(
        settings().resource_names(), **{"group": {"name": "my-rg", "location": "westus3"}, **found}
    )


APP: dict[str, Any] = {
    "tags": {"owner": "someone"},
    "identity": {"type": "None"},
    "properties": {
        "environmentId": ProvisionSettings(subscription=SUBSCRIPTION, resource_group="my-rg")
        .resource_names()
        .ids["environment"],
        "workloadProfileName": "theirs",
        "configuration": {
            "activeRevisionsMode": "Single",
            "secrets": [{"name": "nbtoolkit-api-key"}, {"name": "extra"}],
            "ingress": {
                "fqdn": "app.example.io",
                "customDomains": [
                    {"name": "chat.example.org", "bindingType": "SniEnabled", "certificateId": "/c"}
                ],
                "ipSecurityRestrictions": [
                    {"name": "office", "action": "Allow", "ipAddressRange": "203.0.113.0/24"}
                ],
            },
            "registries": [{"server": "r.io", "identity": "/id", "username": "", "passwordSecretRef": ""}],
        },
        "template": {
            "terminationGracePeriodSeconds": 60,
            "containers": [
                {
                    "name": "inference",
                    "image": "img:1",
                    "env": [
                        {"name": "NBTOOLKIT_MOUNT", "value": "/mount"},
                        {"name": "MINE", "value": "1"},
                        {"name": "EXTRA", "secretRef": "extra"},
                    ],
                }
            ],
            "scale": {
                "minReplicas": 0,
                "maxReplicas": 1,
                "cooldownPeriod": 900,
                "rules": [{"name": "http", "http": {"metadata": {"concurrentRequests": "4"}}}],
            },
            "volumes": [{"name": "share"}],
        },
    },
}


def app_with(**properties: Any) -> dict[str, Any]:
    """The app with some of its properties' members replaced."""
    app = json.loads(json.dumps(APP))
    for name, value in properties.items():
        app["properties"][name] |= value
    return app


def environment(*profiles: tuple[str, str]) -> dict[str, Any]:
    listed = [{"name": name, "workloadProfileType": kind} for name, kind in profiles]
    return {"location": "West US 3", "properties": {"workloadProfiles": listed or None}}
