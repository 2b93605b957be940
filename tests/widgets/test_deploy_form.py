"""The deploy and smoke forms: suggestions, blockers, target status and the second button."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.deployment import DeploySettings
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.local.target import LocalTarget
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.smoke.check import Check
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.smoke.settings import LEVELS, SmokeSettings
from nbtoolkit.widgets import DeployForm, SmokeForm, model_forms
from nbtoolkit.widgets.model_forms import adapter_folders, adapter_lines, base_folders
from nbtoolkit.workspace import Workspace
from tests.support.model_folders import write_adapter, write_base
from tests.support.wait import wait_until


@pytest.fixture
def workspace(workspace_root: Path) -> Workspace:
    write_base(workspace_root / "model-cache" / "tiny")
    write_adapter(workspace_root / "adapters" / "tone")
    return Workspace(workspace_root)


def settings(**values: Any) -> DeploySettings:
    return DeploySettings(**{"adapters": "adapters/tone", "base": "model-cache/tiny", **values})


def report(workspace: Workspace, verdict: Any = "pass") -> SmokeReport:
    adapter, base = (
        Adapter.read(workspace.path("adapters/tone")),
        Base.read(workspace.path("model-cache/tiny")),
    )
    smoke_report = SmokeReport(
        created=datetime.now(UTC),
        adapter=adapter.name,
        adapter_sha256=adapter.sha256,
        base=base.name,
        base_sha256=base.sha256,
        engine="transformers",
        levels=LEVELS,
        versions={},
        settings={"dtype": "auto"},
        checks=(
            Check(id="A6", title="numbers", level="static", verdict=verdict, summary="all zero", remedy="x"),
        ),
    )
    smoke_report.save(workspace)
    return smoke_report


def test_a_missing_smoke_report_is_a_blocker_and_shows_the_second_button(
    workspace: Workspace,
) -> None:
    form = DeployForm(settings(), workspace=workspace)
    (blocker,) = form.blockers()
    assert "No green smoke report for these bytes: run the smoke test" in blocker
    view = form.view
    assert view.run_button.disabled
    assert view.secondary_button.layout.display is None


def test_a_green_report_unblocks_its_bytes_only(workspace: Workspace) -> None:
    form = DeployForm(settings(), workspace=workspace)
    view = form.view
    report(workspace)
    view.check_button.click()
    assert form.blockers() == []
    assert not view.run_button.disabled
    assert view.secondary_button.layout.display == "none"
    write_adapter(workspace.path("adapters/tone"), fill=b"\2")
    assert "there is no smoke report" in form.blockers()[0]


def test_a_failed_report_is_a_blocker_with_the_failed_check(workspace: Workspace) -> None:
    report(workspace, "fail")
    assert "A6 numbers: all zero" in model_forms.deploy_blockers(settings(), workspace)[0]
    assert model_forms.deploy_blockers(settings(override_reason="a test"), workspace) == []


def test_unreadable_folders_are_blockers_and_hide_the_second_button(workspace: Workspace) -> None:
    form = DeployForm(settings(base="model-cache/none", adapters={"x": "adapters/none"}), workspace=workspace)
    blockers = form.blockers()
    assert "model-cache/none" in blockers[0]
    assert blockers[1].startswith("x: ")
    assert form.view.secondary_button.layout.display == "none"
    with pytest.raises(InvalidSettings, match="model-cache/none"):
        form.result()


def test_empty_settings_are_a_blocker(workspace: Workspace) -> None:
    assert DeployForm(workspace=workspace).blockers() == [
        "adapters is empty: name the folder of a LoRA adapter"
    ]


def test_a_custom_server_needs_its_folder(workspace: Workspace) -> None:
    custom = DeploySettings(server="own")
    assert "inference" in model_forms.deploy_blockers(custom, workspace)[0]
    workspace.path("inference").mkdir()
    assert model_forms.deploy_blockers(custom, workspace) == []


def test_the_form_displays_the_target_status(workspace: Workspace) -> None:
    view = DeployForm(settings(), LocalTarget(workspace), workspace=workspace).view
    wait_until(lambda: "stopped" in view._status.value)


def test_the_second_button_smoke_tests_every_adapter_and_then_deploys(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def fake_smoke_test(settings: SmokeSettings, *, progress: Progress, workspace: Workspace) -> SmokeReport:
        steps.append(f"smoke {settings.adapter}")
        return report(workspace)

    def fake_deploy(settings: DeploySettings, *, target: Any, progress: Progress) -> str:
        steps.append(f"deploy to {target.workspace.root}")
        return "deployed"

    monkeypatch.setattr(model_forms, "smoke_test", fake_smoke_test)
    monkeypatch.setattr(model_forms, "deploy", fake_deploy)
    form = DeployForm(settings(), workspace=workspace)
    form.view.secondary_button.click()
    assert form.result() == "deployed"
    assert steps == ["smoke adapters/tone", f"deploy to {workspace.root}"]


def test_a_failed_smoke_test_is_displayed_as_failed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        model_forms, "smoke_test", lambda settings, *, progress, workspace: report(workspace, "fail")
    )
    form = SmokeForm(SmokeSettings(adapter="adapters/tone", base="model-cache/tiny"), workspace=workspace)
    assert form.blockers() == []
    form.view.run_button.click()
    assert form.result().failed
    assert "Smoke test failed" in form.view._run_view._outcome.value


def test_a_missing_base_and_adapter_folder_block_the_smoke_test(workspace: Workspace) -> None:
    form = SmokeForm(SmokeSettings(adapter="adapters/none", base="none"), workspace=workspace)
    assert ["none" in blocker for blocker in form.blockers()] == [True, True]


def test_adapters_and_bases_of_the_workspace_are_suggested(workspace: Workspace) -> None:
    write_adapter(workspace.path("models/colours/adapter"))
    write_adapter(workspace.path(".venv/lib/hidden"))
    write_base(workspace.cache / "demo")
    assert adapter_lines(workspace) == ["tone = adapters/tone", "colours = models/colours/adapter"]
    assert adapter_folders(workspace) == ["adapters/tone", "models/colours/adapter"]
    assert base_folders(workspace) == ["model-cache/tiny", ".nbtoolkit/cache/demo"]


def test_azure_is_blocked_until_the_workspace_is_provisioned(workspace: Workspace) -> None:
    report(workspace)
    form = DeployForm(settings(target="azure"), workspace=workspace)
    assert "it is not known where this workspace runs on Azure" in form.blockers()[0]
    assert "run provision()" in form.blockers()[0]
    assert str(form._target_status()) == "This workspace has not provisioned anything on Azure yet."
    keys = (
        "SUBSCRIPTION_ID",
        "RESOURCE_GROUP_NAME",
        "STORAGE_ACCOUNT_NAME",
        "FILE_SHARE_NAME",
        "ACA_APP_NAME",
    )
    (workspace.root / "infra" / "inference.config.json").write_text(json.dumps(dict.fromkeys(keys, "x")))
    assert form.blockers() == []


def test_the_target_of_the_settings_can_be_changed_in_the_form(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: list[str] = []

    def fake_deploy(settings: DeploySettings, *, target: Any, progress: Progress) -> str:
        targets.append(target.name)
        return "deployed"

    report(workspace)
    monkeypatch.setattr(model_forms, "deploy", fake_deploy)
    monkeypatch.setattr(model_forms, "config_blocker", lambda _: "")
    form = DeployForm(settings(target="azure"), workspace=workspace)
    form.result()
    form.set(target="local")
    form.start()
    form.result()
    assert targets == ["azure", "local"]


def test_models_on_the_share_are_not_checked_by_the_forms(workspace: Workspace) -> None:
    on_share = settings(adapters={"tone": "/mount/models/run/adapter"}, base="/mount/model-cache/phi")
    assert model_forms.deploy_blockers(on_share, workspace) == []
    smoke = SmokeSettings(adapter=Path("/mount/models/run/adapter"), base="/mount/model-cache/phi")
    assert model_forms.smoke_blockers(smoke, workspace) == []
