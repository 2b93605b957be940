"""Helpers of the tests that operate a deployed app on the Azure double."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from azure.identity import EnvironmentCredential
from azure.mgmt.storage import StorageManagementClient

from nbtoolkit import deploy
from tests.support.azure_workspace import ACCOUNT, APP, GROUP, AzurePlace

A100_QUOTA = "SubscriptionConsumptionNCA100Gpus"
MakePlace = Callable[..., AzurePlace]


def deploy_adapter(place: AzurePlace, says: str) -> None:
    deploy(place.settings(place.adapter(says)), target=place.target)


def app_properties(place: AzurePlace) -> dict[str, Any]:
    """Return the app as the double keeps it."""
    return copy.deepcopy(place.double.apps.app(APP).body["properties"])


def writes(place: AzurePlace) -> list[str]:
    """Return method and last part of what changed something since the last look."""
    found = [f"{line.split()[0]} {line.rpartition('/')[2]}" for line in place.arm_writes()]
    return [line for line in found if line != "POST getAuthtoken"]


def rotate_key(place: AzurePlace, number: int = 1) -> None:
    client = StorageManagementClient(EnvironmentCredential(), place.double.subscription)
    client.storage_accounts.regenerate_key(GROUP, ACCOUNT, {"keyName": f"key{number}"})
    client.close()
