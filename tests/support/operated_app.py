"""Helpers of the tests that operate a deployed app on the Azure double."""

from __future__ import annotations

import copy
from typing import Any

from azure.identity import EnvironmentCredential
from azure.mgmt.storage import StorageManagementClient

from tests.support.azure_project import ACCOUNT, APP, GROUP, AzureProject

A100_QUOTA = "SubscriptionConsumptionNCA100Gpus"


def app_properties(project: AzureProject) -> dict[str, Any]:
    """Return the properties of the app in the double."""
    return copy.deepcopy(project.double.apps.app(APP).body["properties"])


def writes(project: AzureProject) -> list[str]:
    """Return method and last part of each writing request since the last call of ``forget_requests``."""
    found = [f"{line.split()[0]} {line.rpartition('/')[2]}" for line in project.arm_writes()]
    return [line for line in found if line != "POST getAuthtoken"]


def rotate_key(project: AzureProject, number: int = 1) -> None:
    client = StorageManagementClient(EnvironmentCredential(), project.double.subscription)
    client.storage_accounts.regenerate_key(GROUP, ACCOUNT, {"keyName": f"key{number}"})
    client.close()
