"""The validator of Azure requests and responses finds problems, and accepts recorded responses."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bicep_types import BicepTypes

APP, ENVIRONMENT, VERSION = "Microsoft.App/containerApps", "Microsoft.App/managedEnvironments", "2026-07-01"
STORAGE = "Microsoft.Storage/storageAccounts"
ACCOUNT = {"location": "westus3", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
VERSIONS = {"microsoft.app": VERSION, "microsoft.storage": "2026-09-01"}

NEWER_THAN_THE_TYPES = {
    "availabilityZones", "delegatedIdentities", "diskEncryptionConfiguration", "dynamicJsonColumns",
    "enableFips", "imageType", "patchingMode", "revisionTransitionThreshold", "targetLabel",
    "targetPortHttpScheme",
}  # fmt: skip
"""Properties of a preview version in the recordings, which the stable types lack."""


@pytest.fixture(scope="module")
def types(shared: Path) -> BicepTypes:
    return BicepTypes(shared / "azure" / "types" / "bicep")


def app(**probe: Any) -> dict[str, Any]:
    container = {"name": "a", "image": "b", "probes": [{"type": "Liveness", **probe}]}
    return {"location": "westus3", "properties": {"template": {"containers": [container]}}}


def recorded_resources(shared: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield type, version and body of every recorded resource."""
    for line in (shared / "azure/recordings/containerapp-cli-2025.jsonl").read_text("utf-8").splitlines():
        exchange = json.loads(line)
        path = re.search(r"/providers/(microsoft\.(?:app|storage))/([^?]*)", exchange["url"], re.IGNORECASE)
        parts = path[2].strip("/").split("/") if path else [""]
        has_resource = exchange["status"] in (200, 201) and exchange["resp_body"]
        if path and has_resource and len(parts) % 2 == 0:
            body = json.loads(exchange["resp_body"])
            yield f"{path[1]}/{'/'.join(parts[::2])}", VERSIONS[path[1].lower()], body


def test_recorded_responses_are_valid(types: BicepTypes, shared: Path) -> None:
    validated: Counter[str] = Counter()
    problems = []
    for resource_type, version, body in recorded_resources(shared):
        if types.knows(resource_type, version):
            validated[resource_type.lower()] += 1
            problems += types.problems(resource_type, version, body, response=True)
    unexpected = {
        text for text in problems if text.split(":")[0].rpartition(".")[2] not in NEWER_THAN_THE_TYPES
    }
    assert unexpected == set()
    assert validated[APP.lower()] >= 20
    assert validated[ENVIRONMENT.lower()] >= 20


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            app(failureThreshold=11),
            "properties.template.containers[0].probes[0].failureThreshold: wanted 1 to 10",
        ),
        (app(periodSeconds="5"), "periodSeconds: wanted a number"),
        (app(httpGet={"path": "/"}), "httpGet.port: ContainerAppProbeHttpGet requires it"),
        (app(httpget={}), "httpget: ContainerAppProbe has no such property"),
        ({**app(), "location": None}, "location: Microsoft.App/containerApps requires it"),
        ({**app(), "tags": {"a": 1}}, "tags.a: wanted a text"),
        ({**app(), "identity": {"type": "Mine"}}, "identity.type: wanted one of None, SystemAssigned"),
        (
            {"location": "x", "properties": {"provisioningState": "Succeeded"}},
            "provisioningState: is read-only",
        ),
        ({"location": "x", "properties": {"template": {"containers": {}}}}, "containers: wanted a list"),
        ([], "wanted an object"),
    ],
)
def test_the_problem_of_an_invalid_request_is_named(types: BicepTypes, body: Any, problem: str) -> None:
    (found,) = types.problems(APP, VERSION, body)
    assert problem in found


def test_properties_in_the_url_are_not_required_in_the_body(types: BicepTypes) -> None:
    assert types.problems(STORAGE, "2026-09-01", ACCOUNT) == []
    assert types.problems(STORAGE, "2026-09-01", {**ACCOUNT, "name": "Upper"})[0].startswith("name: ")
    assert len(types.problems(STORAGE, "2026-09-01", {})) == 3
    assert types.problems(STORAGE, "2026-09-01", {"tags": {}}, partial=True) == []


def test_a_write_only_property_in_a_response_is_a_problem(types: BicepTypes) -> None:
    secrets = {"configuration": {"secrets": [{"name": "a", "value": "b"}]}}
    body = {"location": "x", "properties": secrets}
    assert types.problems(APP, VERSION, body) == []
    (found,) = types.problems(APP, VERSION, body, response=True)
    assert found == "properties.configuration.secrets[0].value: is write-only, it never comes back"


def test_action_responses_are_validated(types: BicepTypes) -> None:
    key = {"creationTime": "2026-01-01T00:00:00Z", "keyName": "key1", "value": "v", "permissions": "Full"}
    assert types.action_problems(STORAGE, "2026-09-01", "listkeys", {"keys": [key]}) == []
    (found,) = types.action_problems(STORAGE, "2026-09-01", "listKeys", {"keys": [{**key, "value": 1}]})
    assert found == "keys[0].value: wanted a text, found 1"
    with pytest.raises(KeyError):
        types.action_problems(STORAGE, "2026-09-01", "explode", {})


def test_an_unknown_type_raises_key_error(types: BicepTypes) -> None:
    assert not types.knows(APP, "2026-02-01")
    with pytest.raises(KeyError):
        types.problems(APP, "2026-02-01", {})
