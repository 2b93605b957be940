"""Every operation of nbtoolkit is recorded or documented, and every body has Bicep's type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from azure.identity import EnvironmentCredential
from azure.mgmt.storage import StorageManagementClient

from nbtoolkit import (
    AzureTarget,
    DeploySettings,
    ProvisionSettings,
    ScaleSettings,
    SecretSettings,
    TeardownSettings,
    Workspace,
    deploy,
    links,
    provision,
    put_secret,
    repair,
    rollback,
    scale,
    teardown,
)
from nbtoolkit.azure.arm import subscriptions
from nbtoolkit.errors import Cancelled, NotApplied
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.fidelity.allowed_differences import reason_not_called
from tests.fidelity.documented_operations import DOCUMENTED, RARE, unknown
from tests.fidelity.exchanges import RECORDINGS, recorded
from tests.fidelity.operation_names import exchange_kind
from tests.fidelity.traffic import Traffic
from tests.support import stub_deploy
from tests.support.bicep_compiler import NO_COMPILER, find_bicep
from tests.support.bicep_types import BicepTypes
from tests.support.recording_progress import cancel_at

GROUP = "rg-traffic"
BIG = 5 << 20
"""Bytes of an adapter that is uploaded in ranges."""


class EndToEndRun:
    """A run of every step of the package on Azure."""

    def __init__(self, double: AzureDouble, root: Path) -> None:
        (root / "infra").mkdir(parents=True)
        self.double = double
        self.workspace = Workspace(root)
        self.base = stub_deploy.base(root / "tiny")
        self.target: AzureTarget

    def run(self) -> None:
        """Run it."""
        self.list_choices()
        self.provision()
        self.target = AzureTarget(self.workspace)
        self.deploy()
        self.operate()
        self.tear_down()

    def list_choices(self) -> None:
        subscriptions.subscriptions()
        subscriptions.resource_groups(SUBSCRIPTION)
        subscriptions.regions(SUBSCRIPTION)

    def provision(self) -> None:
        self.double.arm.providers.states["Microsoft.App"] = "NotRegistered"
        settings = ProvisionSettings(
            subscription=SUBSCRIPTION,
            resource_group=GROUP,
            location="westus3",
            gpu="none",
            create_resource_group=True,
            register_providers=True,
        )
        how: dict[str, Any] = {"workspace": self.workspace}
        with pytest.raises(NotApplied):
            provision(settings, **how)
        with pytest.raises(Cancelled):
            provision(settings, apply=True, progress=cancel_at("being created"), **how)
        self.double.apps.wait_for(lambda: not self.deploying(), 20, "the cancelled deployment to end")
        assert provision(settings, apply=True, **how).changed
        assert not provision(settings, **how).changed

    def deploy(self) -> None:
        assert self.send("brave").how == "start"
        assert self.send("calm", size=BIG).how == "hot swap"
        assert self.send("calm", max_concurrency=4).how == "restart"
        rollback(target=self.target)
        list(self.target.logs(tail=5))

    def operate(self) -> None:
        self.target.status()
        links(self.target)
        put_secret(SecretSettings(name="HF_TOKEN", value="one"), target=self.target)
        self.settle()
        self.target.endpoint().wait(60)
        put_secret(SecretSettings(name="HF_TOKEN", value="two"), target=self.target)
        scale(ScaleSettings(minimum=1, maximum=2), target=self.target)
        scale(ScaleSettings(running=False, minimum=1, maximum=2), target=self.target)
        account = self.target.provisioned.storage_account
        client = StorageManagementClient(EnvironmentCredential(), SUBSCRIPTION)
        client.storage_accounts.regenerate_key(GROUP, account, {"keyName": "key1"})
        client.close()
        assert repair(target=self.target).written
        scale(ScaleSettings(minimum=1, maximum=2), target=self.target)

    def tear_down(self) -> None:
        app = self.target.provisioned.app
        assert teardown(TeardownSettings(scope="all", confirm_name=app), workspace=self.workspace).done

    def send(self, says: str, *, size: int = 4096, **more: Any) -> Any:
        folder = stub_deploy.adapter(self.workspace.root / "adapters" / says, says, size)
        stub_deploy.report(self.workspace, folder, self.base, says)
        given = {"adapters": {"tone": folder}, "base": "tiny", "timeout": 60, "wheels_lock": "none"}
        settings = DeploySettings(**{**given, "target": "azure", **more})
        return deploy(settings, target=self.target)

    def deploying(self) -> bool:
        """Whether a deployment runs."""
        with self.double.arm.lock:
            bodies = [*self.double.arm.resources.values()]
        return any(
            body["properties"]["provisioningState"] == "Running"
            for body in bodies
            if body.get("type") == "Microsoft.Resources/deployments"
        )

    def settle(self) -> None:
        """Wait until the newest revision has taken over."""
        app = self.double.apps.app(self.target.provisioned.app)
        self.double.apps.wait_for(lambda: app.serving is app.latest, 20, "the new revision")


@pytest.mark.usefixtures("stub_engine")
@pytest.mark.timeout(180)
def test_every_operation_has_a_source_and_every_body_its_type(
    azure_double: AzureDouble,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if find_bicep() is None:
        pytest.skip(NO_COMPILER)
    azure_double.clock.scale = 0.004
    monkeypatch.chdir(tmp_path)
    traffic = Traffic(BicepTypes(shared / "azure" / "types" / "bicep"))
    traffic.watch(azure_double)
    EndToEndRun(azure_double, tmp_path / "project").run()
    kinds = {exchange_kind(one) for file in RECORDINGS for one in recorded(shared / "azure/recordings", file)}
    names = {one.operation for one in kinds}
    with capsys.disabled():
        print(f"\n{traffic.report(names)}")
    assert unknown(traffic.operations, names) == []
    assert [str(one) for one in kinds if reason_not_called(one) and one.operation in traffic.operations] == []
    assert traffic.problems == {}
    assert set(DOCUMENTED) - RARE <= set(traffic.operations)
