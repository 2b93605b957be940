"""The preflight's checks of the subscription, its providers and the states of existing resources."""

from __future__ import annotations

from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support.preflight_resources import A100, Check, only, put_environment


def test_an_unregistered_provider_blocks_without_register_providers(check: Check, azure: AzureDouble) -> None:
    azure.arm.providers.states["Microsoft.App"] = "NotRegistered"
    found = check()
    assert any("az provider register -n Microsoft.App" in sentence for sentence in found.blockers)
    assert found.unregistered == ("Microsoft.App",)
    agreed = check(register_providers=True)
    assert agreed.ok
    assert agreed.facts["providers"] == "Microsoft.App will be registered"
    assert azure.arm.providers.states["Microsoft.App"] == "NotRegistered"


def test_the_log_analytics_provider_is_needed_only_for_a_new_workspace(
    check: Check, azure: AzureDouble
) -> None:
    azure.arm.providers.states["Microsoft.OperationalInsights"] = "NotRegistered"
    assert check().unregistered == ("Microsoft.OperationalInsights",)
    put_environment(azure, A100)
    found = check(environment_name="env")
    assert (found.ok, found.unregistered) == (True, ())


def test_an_unknown_region_blocks(check: Check) -> None:
    sentences = check(location="atlantis").blockers
    [region] = [sentence for sentence in sentences if "not available in atlantis" in sentence]
    assert region.startswith("Microsoft.App, Microsoft.")


def test_an_environment_that_azure_is_changing_blocks(check: Check, azure: AzureDouble) -> None:
    put_environment(azure, A100)["properties"]["provisioningState"] = "Updating"
    only(check(environment_name="env").blockers, "state Updating", "wait")


def test_a_disabled_subscription_blocks(check: Check, azure: AzureDouble) -> None:
    azure.arm.subscriptions.states[SUBSCRIPTION] = "Disabled"
    sentences = check(storage_account="mine").blockers
    assert any("is disabled" in sentence and "choose another one" in sentence for sentence in sentences)
