"""The preflight's check of permissions."""

from __future__ import annotations

from tests.azure_double import AzureDouble
from tests.azure_double.permissions import Role
from tests.support.preflight_resources import A100, GROUP, Check, only, put_account, put_environment


def test_missing_actions_are_named_with_the_role_to_request(check: Check, azure: AzureDouble) -> None:
    azure.arm.permissions.forbid(
        "Microsoft.Storage/storageAccounts/listKeys/action",
        "Microsoft.App/containerApps/revisions/restart/action",
    )
    sentence = only(
        check().blockers,
        "Microsoft.Storage/storageAccounts/listKeys/action",
        "Microsoft.App/containerApps/revisions/restart/action",
        "Contributor",
    )
    assert "containerApps/write" not in sentence


def test_actions_that_create_existing_resources_are_not_needed(check: Check, azure: AzureDouble) -> None:
    put_environment(azure, A100)
    put_account(azure)
    azure.arm.permissions.forbid(
        "Microsoft.Storage/storageAccounts/write",
        "Microsoft.App/managedEnvironments/write",
        "Microsoft.OperationalInsights/workspaces/write",
        "Microsoft.OperationalInsights/workspaces/sharedKeys/action",
    )
    assert check(environment_name="env", storage_account="mine").blockers == ()
    missing = only(check(gpu="T4").blockers, "Microsoft.App/managedEnvironments/write")
    assert "Microsoft.OperationalInsights/workspaces/sharedKeys/action" in missing


def test_a_missing_action_of_a_later_step_is_a_warning(check: Check, azure: AzureDouble) -> None:
    put_environment(azure, A100)
    put_account(azure)
    azure.arm.permissions.forbid("Microsoft.App/containerApps/delete")
    found = check(environment_name="env", storage_account="mine")
    assert found.ok
    assert any("teardown() will need it" in one for one in found.warnings)


def test_permissions_of_several_roles_are_combined(check: Check, azure: AzureDouble) -> None:
    azure.arm.permissions.roles = [
        Role(actions=["*/read"]),
        Role(actions=["Microsoft.Resources/*", "Microsoft.App/*"], scope=GROUP),
        Role(actions=["Microsoft.Storage/*", "Microsoft.OperationalInsights/*"], scope=GROUP),
        Role(actions=["Microsoft.Storage/checkNameAvailability/action"]),
    ]
    assert check().ok


def test_registering_a_provider_needs_permission_in_the_subscription(
    check: Check, azure: AzureDouble
) -> None:
    azure.arm.providers.states["Microsoft.App"] = "NotRegistered"
    azure.arm.permissions.roles = [Role(actions=["*/read", "*/action"], not_actions=["*/register/action"])]
    azure.arm.permissions.roles.append(Role(scope=GROUP))
    sentences = check(register_providers=True).blockers
    only(sentences, "in the subscription", "Microsoft.App/register/action", "owners")
