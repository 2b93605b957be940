"""The deploy and smoke forms find what can be deployed and say what is missing before anything runs."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.deployment import DeploySettings
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.local import LocalTarget
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.smoke import SmokeReport, SmokeSettings
from nbtoolkit.smoke.check import LEVELS, Check
from nbtoolkit.widgets import DeployForm, SmokeForm, deploy_form, smoke_form
from nbtoolkit.widgets import model_picker as found
from nbtoolkit.workspace import Workspace
from tests.support.model_folders import write_adapter, write_base


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
    made = SmokeReport(
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
    made.save(workspace)
    return made


def test_without_a_smoke_report_the_form_says_to_run_one_and_offers_it(workspace: Workspace) -> None:
    form = DeployForm(settings(), workspace=workspace)
    (sentence,) = form.blockers()
    assert "No green smoke report for these bytes: run the smoke test" in sentence
    view = form.view
    assert view.run_button.disabled
    assert view.remedy_button.layout.display is None


def test_a_green_report_for_these_bytes_unblocks_and_other_bytes_block_again(workspace: Workspace) -> None:
    form = DeployForm(settings(), workspace=workspace)
    view = form.view
    report(workspace)
    view.check_button.click()
    assert form.blockers() == []
    assert not view.run_button.disabled
    assert view.remedy_button.layout.display == "none"
    write_adapter(workspace.path("adapters/tone"), fill=b"\2")
    assert "there is no smoke report" in form.blockers()[0]


def test_a_failed_report_blocks_and_names_the_check(workspace: Workspace) -> None:
    report(workspace, "fail")
    assert "A6 numbers: all zero" in deploy_form.blockers(settings(), workspace)[0]
    assert deploy_form.blockers(settings(override_reason="a test"), workspace) == []


def test_folders_that_cannot_be_read_are_named_and_no_smoke_test_is_offered(workspace: Workspace) -> None:
    form = DeployForm(settings(base="model-cache/none", adapters={"x": "adapters/none"}), workspace=workspace)
    blockers = form.blockers()
    assert "model-cache/none" in blockers[0]
    assert blockers[1].startswith("x: ")
    assert form.view.remedy_button.layout.display == "none"
    with pytest.raises(InvalidSettings, match="model-cache/none"):
        form.result()


def test_nothing_filled_in_is_a_blocker_and_no_traceback(workspace: Workspace) -> None:
    assert DeployForm(workspace=workspace).blockers() == [
        "adapters is empty: name the folder of a LoRA adapter"
    ]


def test_a_server_of_ones_own_needs_its_folder(workspace: Workspace) -> None:
    own = DeploySettings(server="own")
    assert "inference" in deploy_form.blockers(own, workspace)[0]
    workspace.path("inference").mkdir()
    assert deploy_form.blockers(own, workspace) == []


def test_the_form_shows_what_the_target_says_now(workspace: Workspace) -> None:
    view = DeployForm(settings(), LocalTarget(workspace), workspace=workspace).view
    deadline = time.monotonic() + 5
    while "stopped" not in view._standing.value:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_second_button_tests_every_adapter_and_then_deploys(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def fake_smoke(one: SmokeSettings, *, progress: Progress, workspace: Workspace) -> SmokeReport:
        steps.append(f"smoke {one.adapter}")
        return report(workspace)

    def fake_deploy(given: DeploySettings, *, target: Any, progress: Progress) -> str:
        steps.append(f"deploy to {target.workspace.root}")
        return "deployed"

    monkeypatch.setattr(deploy_form, "smoke_test", fake_smoke)
    monkeypatch.setattr(deploy_form, "deploy", fake_deploy)
    form = DeployForm(settings(), workspace=workspace)
    form.view.remedy_button.click()
    assert form.result() == "deployed"
    assert steps == ["smoke adapters/tone", f"deploy to {workspace.root}"]


def test_a_failing_smoke_test_is_shown_as_failed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        smoke_form, "smoke_test", lambda one, *, progress, workspace: report(workspace, "fail")
    )
    form = SmokeForm(SmokeSettings(adapter="adapters/tone", base="model-cache/tiny"), workspace=workspace)
    assert form.blockers() == []
    form.view.run_button.click()
    assert form.result().failed
    assert "Smoke test failed" in form.view._run_view._outcome.value


def test_a_smoke_test_needs_a_base_and_a_folder(workspace: Workspace) -> None:
    form = SmokeForm(SmokeSettings(adapter="adapters/none", base="none"), workspace=workspace)
    assert [("none" in sentence) for sentence in form.blockers()] == [True, True]


def test_adapters_and_bases_of_the_workspace_are_found(workspace: Workspace) -> None:
    write_adapter(workspace.path("models/colours/adapter"))
    write_adapter(workspace.path(".venv/lib/hidden"))
    write_base(workspace.cache / "demo")
    assert found.adapter_lines(workspace) == ["tone = adapters/tone", "colours = models/colours/adapter"]
    assert found.adapter_folders(workspace) == ["adapters/tone", "models/colours/adapter"]
    assert found.base_folders(workspace) == ["model-cache/tiny", ".nbtoolkit/cache/demo"]


def test_azure_is_blocked_until_something_is_provisioned_there(workspace: Workspace) -> None:
    report(workspace)
    form = DeployForm(settings(target="azure"), workspace=workspace)
    assert "it is not known where this workspace runs on Azure" in form.blockers()[0]
    assert "run provision()" in form.blockers()[0]
    assert str(form._standing()) == "Nothing was provisioned on Azure by this workspace yet."
    keys = (
        "SUBSCRIPTION_ID",
        "RESOURCE_GROUP_NAME",
        "STORAGE_ACCOUNT_NAME",
        "FILE_SHARE_NAME",
        "ACA_APP_NAME",
    )
    (workspace.root / "infra" / "inference.config.json").write_text(json.dumps(dict.fromkeys(keys, "x")))
    assert form.blockers() == []


def test_the_settings_say_where_to_and_may_change_in_the_form(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []

    def fake_deploy(given: DeploySettings, *, target: Any, progress: Progress) -> str:
        places.append(target.name)
        return "deployed"

    report(workspace)
    monkeypatch.setattr(deploy_form, "deploy", fake_deploy)
    monkeypatch.setattr(deploy_form, "unprovisioned", lambda _: "")
    form = DeployForm(settings(target="azure"), workspace=workspace)
    form.result()
    form.set(target="local")
    form.start()
    form.result()
    assert places == ["azure", "local"]


def test_what_lies_on_the_share_is_left_to_the_deploy_and_to_the_smoke_test(workspace: Workspace) -> None:
    on_share = settings(adapters={"tone": "/mount/models/run/adapter"}, base="/mount/model-cache/phi")
    assert deploy_form.blockers(on_share, workspace) == []
    smoke = SmokeSettings(adapter=Path("/mount/models/run/adapter"), base="/mount/model-cache/phi")
    assert smoke_form.blockers(smoke, workspace) == []
