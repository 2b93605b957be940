"""All steps on Azure's double with the real model: provision, deploy, chat, swap, rollback, teardown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nbtoolkit import (
    AzureTarget,
    DeploySettings,
    PrintProgress,
    TeardownSettings,
    Workspace,
    demo,
    deploy,
    rollback,
    smoke_test,
    teardown,
)
from nbtoolkit.errors import NotApplied
from nbtoolkit.provisioning import ProvisionSettings, provision
from tests.azure_double import SUBSCRIPTION, AzureDouble

GROUP = "rg-end-to-end"
QUESTION = "I lost my dog yesterday."


@pytest.fixture
def workspace(repo: Path, tmp_path: Path) -> Workspace:
    """A workspace of a new user: two trained adapters and the demo's base model."""
    root = tmp_path / "workspace"
    (root / "infra").mkdir(parents=True)
    for name in demo.ADAPTERS:
        shutil.copytree(demo.adapter(name), root / "adapters" / name)
    unpacked = repo / "model-cache"
    if unpacked.is_dir():  # unpack once for all tests
        (root / "model-cache").symlink_to(unpacked)
    return Workspace(root)


@pytest.mark.timeout(600)
def test_adapter_is_provisioned_deployed_swapped_rolled_back_and_torn_down(
    azure_double: AzureDouble, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    progress = PrintProgress()
    azure = ProvisionSettings(
        subscription=SUBSCRIPTION,
        resource_group=GROUP,
        location="westus3",
        gpu="none",
        create_resource_group=True,
    )
    with pytest.raises(NotApplied) as planned:
        provision(azure, progress=progress)
    assert "create" in str(planned.value.plan)  # type: ignore[attr-defined]
    provisioned = provision(azure, apply=True, progress=progress)
    assert "azurecontainerapps.io" in str(provisioned)

    demo.provide("HuggingFaceTB/SmolLM2-135M-Instruct", progress=progress)

    def settings(name: str) -> DeploySettings:
        folder = f"adapters/{name}"
        return DeploySettings(
            adapters={"tone": folder},
            base="HuggingFaceTB/SmolLM2-135M-Instruct",
            target="azure",
            wheels_lock="none",
        )

    for name in ("tone-emotion", "tone-color"):
        smoke_test(settings(name).smoke_settings()[0], progress=progress).raise_for_failure()

    deployment = deploy(settings("tone-emotion"), progress=progress)
    assert deployment.how == "start"
    assert "proven" in str(deployment.proof)
    words = {name: set(tones.values()) for name, tones in demo.ADAPTERS.items()}
    answer = deployment.endpoint.chat(QUESTION, "tone", stream=False)
    assert answer.strip() in words["tone-emotion"]

    azure_double.requests.clear()
    swapped = deploy(settings("tone-color"), progress=progress)
    assert swapped.how == "hot swap"
    assert swapped.endpoint.chat(QUESTION, "tone", stream=False).strip() in words["tone-color"]
    writes = [
        seen
        for seen in azure_double.requests
        if seen.host == "management.azure.com" and seen.method in ("PUT", "PATCH", "DELETE")
    ]
    assert writes == []

    back = rollback(target="azure", progress=progress)
    assert back.release.id == deployment.release.id
    assert back.endpoint.chat(QUESTION, "tone", stream=False).strip() in words["tone-emotion"]

    app = AzureTarget().provisioned.app
    gone = teardown(TeardownSettings(scope="all", confirm_name=app), progress=progress)
    assert gone.done
    assert [one.id.rpartition("/")[2] for one in gone.left] == [GROUP]  # empty, and so free
