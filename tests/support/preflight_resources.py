"""Resources in the double's group ``rg``, for tests of the preflight's checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbtoolkit.provisioning import Preflight
from tests.azure_double import SUBSCRIPTION, AzureDouble

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
A100, T4 = "Consumption-GPU-NC24-A100", "Consumption-GPU-NC8as-T4"

Check = Callable[..., Preflight]


def put(azure: AzureDouble, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create a resource in the group and return the double's body of it."""
    call = azure.arm.put(f"{GROUP}/providers/{path}", body)
    if call.operation is not None:
        call.operation.wait()
    created = azure.arm.get(f"{GROUP}/providers/{path}")
    assert created is not None
    return created


def put_environment(
    azure: AzureDouble, *profiles: str, location: str = "swedencentral", **properties: Any
) -> Any:
    """Create the environment ``env`` with workload profiles of these types."""
    listed = [{"name": "Consumption", "workloadProfileType": "Consumption"}]
    listed += [{"name": f"p{n}", "workloadProfileType": type_} for n, type_ in enumerate(profiles)]
    return put(
        azure,
        "Microsoft.App/managedEnvironments/env",
        {"location": location, "properties": {"workloadProfiles": listed, **properties}},
    )


def put_account(azure: AzureDouble, location: str = "swedencentral", **properties: Any) -> Any:
    """Create the storage account ``mine``."""
    body = {
        "location": location,
        "kind": "StorageV2",
        "sku": {"name": "Standard_LRS"},
        "properties": properties,
    }
    return put(azure, "Microsoft.Storage/storageAccounts/mine", body)


def only(sentences: tuple[str, ...], *words: str) -> str:
    """Return the only sentence and assert that it has these words."""
    assert len(sentences) == 1, sentences
    for word in words:
        assert word in sentences[0]
    return sentences[0]
