"""Resource providers are read, registered and waited for."""

from __future__ import annotations

import pytest

from nbtoolkit.azure.arm.resource_providers import get_provider, register_providers
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import Progress
from tests.azure_double import SUBSCRIPTION, AzureDouble


def test_register_providers_waits_until_they_are_registered(azure_double: AzureDouble) -> None:
    azure_double.arm.providers.states["Microsoft.App"] = "NotRegistered"
    cloud = Cloud.shared()
    assert not get_provider(cloud, SUBSCRIPTION, "Microsoft.App").registered
    progress = Progress()
    register_providers(cloud, SUBSCRIPTION, ["Microsoft.App"], progress)
    assert get_provider(cloud, SUBSCRIPTION, "Microsoft.App").registered
    assert progress.current_phase == "Registering Microsoft.App"


def test_register_providers_raises_after_the_timeout(azure_double: AzureDouble) -> None:
    azure_double.arm.providers.states["Microsoft.App"] = "NotRegistered"
    with pytest.raises(AzureFailed, match="still registering") as caught:
        register_providers(Cloud.shared(), SUBSCRIPTION, ["Microsoft.App"], timeout=0)
    assert "run the step again" in caught.value.next_step


def test_offers_returns_whether_a_region_has_a_resource_type(azure_double: AzureDouble) -> None:
    found = get_provider(Cloud.shared(), SUBSCRIPTION, "Microsoft.App")
    assert found.offers("managedEnvironments", "West US 3") is True
    assert found.offers("managedEnvironments", "atlantis") is False
    assert found.offers("unheardOf", "westus3") is None
