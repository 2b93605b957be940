"""The plan of a provision through the real SDKs: blockers, predictions, changes and kept values."""

from __future__ import annotations

import pytest

from nbtoolkit.errors import (
    Blocked,
    Cancelled,
    NotApplied,
)
from nbtoolkit.provisioning import (
    ProvisionPlan,
)
from tests.azure_double import Call, Refused
from tests.support.provision_project import SLOW, ProvisionProject
from tests.support.recording_progress import Killed, cancel_at, raise_at


def test_without_apply_the_plan_is_shown_and_nothing_is_written(project: ProvisionProject) -> None:
    project.create_group()
    before, since = project.state(), len(project.double.requests)
    with pytest.raises(NotApplied) as caught:
        project.provision(apply=False)
    planned: ProvisionPlan = caught.value.plan  # type: ignore[attr-defined]
    assert [change.verb for change in planned.table.changes] == ["create"] * len(planned.table.changes)
    assert {change.id.lower() for change in planned.table.changes} >= {id_.lower() for id_ in planned.creates}
    assert planned.what_if is not None
    text = str(planned)
    assert "Would provision" in text
    assert "storage by GB and month" in text
    assert "per running replica" in text
    assert "which ends after 900 s without a request" in text
    assert (project.state(), project.writes(since)) == (before, [])
    assert not project.workspace.path("infra/inference.config.json").exists()


def test_a_missing_resource_group_blocks_without_create_resource_group(project: ProvisionProject) -> None:
    with pytest.raises(Blocked, match="no resource group my-rg"):
        project.provision()
    assert project.plan(create_resource_group=True, location="westus3").title.startswith("Would provision")
    project.provision(create_resource_group=True, location="westus3")
    assert project.writes()[0] == ("PUT", "resourcegroups/my-rg")


def test_all_blockers_are_listed_together_and_nothing_is_written(project: ProvisionProject) -> None:
    project.create_group()
    project.double.arm.permissions.forbid("Microsoft.App/containerApps/write")
    since = len(project.double.requests)
    with pytest.raises(Blocked) as caught:
        project.provision(location="westus3", secrets=["NOT_SET_ANYWHERE"])
    found: tuple[str, ...] = caught.value.blockers  # type: ignore[attr-defined]
    assert any("Microsoft.App/containerApps/write" in one for one in found)
    assert any("NOT_SET_ANYWHERE" in one for one in found)
    assert project.writes(since) == []


def test_invalid_settings_are_refused_without_a_request(project: ProvisionProject) -> None:
    with pytest.raises(Blocked, match="vLLM needs a GPU"):
        project.provision(engine="vllm")
    assert project.double.requests == []


def test_a_failed_validation_in_azure_is_a_blocker(project: ProvisionProject) -> None:
    project.create_group()

    def policy(call: Call) -> None:
        if call.id.type == "Microsoft.Storage/storageAccounts":
            raise Refused(403, "RequestDisallowedByPolicy", "Resource was disallowed by policy 'No storage'.")

    project.double.arm.deployments.policies.append(policy)
    with pytest.raises(Blocked, match="A policy of your organisation forbids this"):
        project.provision()


def test_a_forbidden_read_is_a_blocker_with_all_missing_permissions(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    forbidden = [f"Microsoft.App/containerApps/{one}" for one in ("listSecrets/action", "start/action")]
    project.double.arm.permissions.forbid(*forbidden)
    with pytest.raises(Blocked) as caught:
        project.provision(max_replicas=2)
    (blocker,) = caught.value.blockers  # type: ignore[attr-defined]
    assert all(action in blocker for action in forbidden)
    project.double.arm.permissions.forbid("Microsoft.Storage/storageAccounts/read")
    with pytest.raises(Blocked, match="storageAccounts/read"):
        project.provision()


def test_a_cancelled_plan_does_not_cancel_the_running_deployment(project: ProvisionProject) -> None:
    project.create_group()
    project.double.clock.scale = SLOW
    with pytest.raises(Killed):
        project.provision(progress=raise_at("being created"))
    progress = cancel_at("being created")
    with pytest.raises(Cancelled, match="only waited for"):
        project.provision(apply=False, progress=progress)
    progress = cancel_at("being created")
    with pytest.raises(Cancelled, match="is cancelled"):
        project.provision(progress=progress)
