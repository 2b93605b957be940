"""Fixtures of the tests of provisioning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.provisioning import Preflight, ProvisionSettings, preflight
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support.provision_project import FAST, ProvisionProject


@pytest.fixture
def project(azure_double: AzureDouble, workspace_root: Path) -> ProvisionProject:
    """A workspace without a resource group yet, and a double that runs fast."""
    azure_double.clock.scale = FAST
    return ProvisionProject(azure_double, workspace_root)


@pytest.fixture
def azure(azure_double: AzureDouble) -> AzureDouble:
    """A double with the empty resource group ``rg``."""
    azure_double.arm.groups.add("rg", "swedencentral")
    return azure_double


@pytest.fixture
def check(azure: AzureDouble, workspace_root: Path) -> Callable[..., Preflight]:
    """Run the preflight with settings that work, overridden by those given."""

    def _check(**values: Any) -> Preflight:
        settings = ProvisionSettings(**{"subscription": SUBSCRIPTION, "resource_group": "rg", **values})
        return preflight(settings, workspace=Workspace(workspace_root))

    return _check
