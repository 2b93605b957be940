"""Type, name and title of a resource from its id."""

from __future__ import annotations

import pytest

from nbtoolkit.azure.arm.delete import RemainingResource
from nbtoolkit.azure.arm.deployment_operations import DeploymentOperation
from nbtoolkit.azure.arm.what_if import ResourceChange
from nbtoolkit.azure.errors.arm_error import Cause
from nbtoolkit.azure.resource_id import SHARE, kind_of, name_of, title_of, type_of

GROUP = "/subscriptions/s/resourceGroups/rg"
STORE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/acc/fileServices/default/shares/files"


def test_id_has_type_and_name() -> None:
    assert type_of(STORE) == "Microsoft.Storage/storageAccounts/fileServices/shares"
    assert kind_of(STORE) == SHARE
    assert name_of(STORE) == "acc/default/files"


@pytest.mark.parametrize(
    ("resource", "title"),
    [
        (STORE, "file share files"),
        (GROUP, "resource group rg"),
        (
            f"{GROUP}/providers/Microsoft.App/managedEnvironments/env/storages/share",
            "environment storage share",
        ),
        (
            f"{GROUP}/providers/Microsoft.App/managedEnvironments/env/workloadProfiles/a100",
            "machine env/a100",
        ),
        (f"{GROUP}/providers/Microsoft.Web/sites/x", "microsoft.web/sites x"),
    ],
)
def test_title_is_the_same_in_a_plan_a_deployment_and_a_teardown(resource: str, title: str) -> None:
    assert (
        title_of(resource)
        == ResourceChange(resource, "keep").title
        == DeploymentOperation(resource, "Running", True).title
        == title
    )
    assert str(RemainingResource(resource, "costs nothing")) == f"{title}: costs nothing"


def test_cause_names_the_innermost_type_in_azures_spelling() -> None:
    assert (
        Cause("c", "m", STORE, "n").resource
        == "Microsoft.Storage/storageAccounts/fileServices/shares acc/default/files"
    )
    assert Cause("c", "m", "properties.x", "n").resource == "properties.x"
    assert Cause("c", "m", None, "n").resource is None
