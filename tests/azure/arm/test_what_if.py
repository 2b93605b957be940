"""A what-if becomes a table of real changes and a count of noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbtoolkit.azure.arm.what_if import WhatIf

GROUP = "/subscriptions/s/resourceGroups/g"
APP = f"{GROUP}/providers/Microsoft.App/containerApps/a"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/st"


def modified(resource: str, *delta: tuple[str, str, Any, Any]) -> dict[str, Any]:
    return {
        "resourceId": resource,
        "changeType": "Modify",
        "delta": [
            {"path": path, "propertyChangeType": kind, "before": before, "after": after}
            for path, kind, before, after in delta
        ],
    }


def is_noise(found: WhatIf) -> bool:
    return all(change.verb == "keep" for change in found.changes)


def test_recorded_predictions_are_parsed(shared: Path) -> None:
    found: list[WhatIf] = []
    for line in (shared / "azure" / "recordings" / "arm-deployments-azd-2026.jsonl").read_text().splitlines():
        exchange = json.loads(line)
        if "operationresults" in exchange["url"] and "changes" in str(exchange["resp_body"]):
            found.append(WhatIf.parse(json.loads(exchange["resp_body"])["properties"]["changes"]))
    assert [[change.verb for change in one.changes] for one in found] == [
        ["create", "create"],
        ["keep", "keep"],
    ]
    assert found[0].changes[1].title == "storage account stbcsg4z42wdpnk"
    assert found[1].noise_count == 2  # both are expressions that only a running deployment knows
    assert is_noise(found[1])
    assert "2 more differences" in str(found[1])


def test_noise_is_left_out_and_real_changes_stay() -> None:
    found = WhatIf.parse(
        [
            modified(
                APP,
                ("properties.template.scale.maxReplicas", "Modify", 1, 2),
                ("properties.template.scale.pollingInterval", "Delete", 30, None),
                ("properties.runningStatus", "Delete", "Running", None),
                ("properties.configuration.ingress.exposedPort", "Delete", 0, None),
                ("properties.configuration.ingress.fqdn", "NoEffect", "x.io", None),
                ("properties.environmentId", "Modify", "/SUBSCRIPTIONS/s", "/subscriptions/S"),
                ("location", "Modify", "West US 3", "westus3"),
                ("properties.template.containers.0.resources.cpu", "Modify", "4.0", 4),
                ("tags.now", "Modify", "x", "[utcNow()]"),
            ),
        ]
    )
    (change,) = found.changes
    assert [str(diff) for diff in change.differences] == ["properties.template.scale.maxReplicas: 1 → 2"]
    assert found.noise_count == 8
    assert not is_noise(found)


def test_a_property_that_the_template_removes_is_not_noise() -> None:
    domains = [{"name": "chat.example.org"}]
    found = WhatIf.parse(
        [modified(APP, ("properties.configuration.ingress.customDomains", "Delete", domains, None))]
    )
    assert found.changes[0].verb == "change"
    assert found.noise_count == 0


def test_a_restriction_is_noise_only_if_it_is_azures_default() -> None:
    default: list[tuple[str, str, Any, Any]] = [
        ("properties.configuration.ingress.clientCertificateMode", "Delete", "ignore", None),
        ("properties.configuration.maxInactiveRevisions", "Delete", 100, None),
        ("properties.configuration.ingress.corsPolicy", "Delete", {}, None),
        ("properties.template.serviceBinds", "Modify", [], None),
        ("identity", "Modify", {"type": "None"}, None),
        ("properties.configuration.secrets.0.value", "Create", None, "hidden"),
    ]
    found = WhatIf.parse([modified(APP, *default)])
    assert (found.noise_count, is_noise(found)) == (6, True)
    chosen: list[tuple[str, str, Any, Any]] = [
        ("properties.configuration.ingress.clientCertificateMode", "Delete", "require", None),
        ("properties.configuration.maxInactiveRevisions", "Delete", 5, None),
        ("properties.configuration.ingress.corsPolicy", "Delete", {"allowedOrigins": ["a"]}, None),
        ("properties.template.serviceBinds", "Delete", [{"name": "redis"}], None),
        ("identity", "Delete", {"type": "SystemAssigned"}, None),
        ("properties.configuration.ingress.traffic", "Delete", [{"revisionName": "r", "weight": 100}], None),
    ]
    found = WhatIf.parse([modified(APP, *chosen)])
    assert (found.noise_count, len(found.changes[0].differences)) == (0, 6)


def test_the_same_property_of_another_service_is_not_noise() -> None:
    found = WhatIf.parse([modified(ACCOUNT, ("properties.publicNetworkAccess", "Delete", "Enabled", None))])
    assert [change.verb for change in found.changes] == ["change"]


def test_differences_inside_of_lists_are_read() -> None:
    nested = {
        "path": "properties.configuration.ingress.ipSecurityRestrictions",
        "propertyChangeType": "Array",
        "children": [{"path": "0", "propertyChangeType": "Create", "after": ["a", "b"]}],
    }
    found = WhatIf.parse([{"resourceId": APP, "changeType": "Modify", "delta": [nested]}])
    (diff,) = found.changes[0].differences
    assert str(diff) == 'properties.configuration.ingress.ipSecurityRestrictions.0: – → ["a", "b"]'


def test_modules_and_ignored_resources_are_left_out() -> None:
    module = f"{GROUP}/providers/Microsoft.Resources/deployments/app"
    found = WhatIf.parse(
        [{"resourceId": module, "changeType": "Create"}, {"resourceId": ACCOUNT, "changeType": "Ignore"}]
    )
    assert found.changes == ()
    assert str(found) == "nothing would change"


def test_secrets_are_hidden_and_html_is_escaped() -> None:
    canary = "<img src=x onerror=alert(1)>"
    found = WhatIf.parse(
        [
            modified(
                APP,
                ("properties.configuration.secrets.0.value", "Modify", "old-canary", "new-canary"),
                ("tags.x", "Modify", "a", canary),
            )
        ]
    )
    assert "new-canary" not in str(found) + found._repr_html_()
    assert canary in str(found)
    assert canary not in found._repr_html_()
    assert "&lt;img" in found._repr_html_()


def test_changes_are_sorted_by_verb() -> None:
    kinds = {"NoChange": ACCOUNT, "Create": APP, "Delete": f"{APP}2", "Unsupported": f"{APP}3"}
    found = WhatIf.parse([{"resourceId": id_, "changeType": kind} for kind, id_ in kinds.items()])
    assert [change.verb for change in found.changes] == ["delete", "create", "unknown", "keep"]
