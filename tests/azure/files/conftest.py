"""A provisioned file share of the double, its account, and a store on it."""

from __future__ import annotations

import pytest

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files.share import AzureShare
from tests.azure_double import AzureDouble
from tests.azure_double.share_auth import Account
from tests.azure_double.share_setup import account_of, provisioned_share


@pytest.fixture
def found(azure_double: AzureDouble) -> ResourceNames:
    return provisioned_share(azure_double)


@pytest.fixture
def account(azure_double: AzureDouble, found: ResourceNames) -> Account:
    return account_of(azure_double, found)


@pytest.fixture
def store(azure_double: AzureDouble, found: ResourceNames) -> AzureShare:
    """A share whose credential is known, so that faults hit only the requests of the test."""
    share = AzureShare(Cloud(), found)
    share.make_folder("a")
    azure_double.requests.clear()
    return share
