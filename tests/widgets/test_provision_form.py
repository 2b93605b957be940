"""The form of a provision: places to pick from, a plan before the costs, and what runs is taken up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbtoolkit.azure import clients as clouds
from nbtoolkit.azure.arm.deployment import ArmDeployment
from nbtoolkit.azure.arm.template import template
from nbtoolkit.azure.auth import shared_credential as login
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import Cancelled, InvalidSettings, NotApplied
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import ProvisionSettings
from nbtoolkit.widgets import ProvisionForm
from nbtoolkit.widgets.forms.background_run import RunStatus
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support.recording_progress import until

FAST, SLOW = 0.002, 0.03


def settings(**values: Any) -> ProvisionSettings:
    return ProvisionSettings(
        **{"subscription": SUBSCRIPTION, "resource_group": "my-rg", "gpu": "none", **values}
    )


@pytest.fixture
def workspace(
    azure_double: AzureDouble, workspace_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    monkeypatch.setattr(clouds, "POLL", 0.05)
    azure_double.clock.scale = FAST
    yield Workspace(workspace_root)
    for thread in threading.enumerate():  # what a view still asks has to be answered before the double ends
        if thread.name in ("nbtoolkit-places", "nbtoolkit-standing"):
            thread.join(10)


@pytest.fixture
def group(workspace: Workspace) -> None:
    groups = Cloud.shared().resources(SUBSCRIPTION).resource_groups
    groups.create_or_update("my-rg", {"location": "westus3"})


def ended(form: ProvisionForm) -> RunStatus:
    assert form.operation is not None
    form.operation.wait(60)
    return form.operation.status


@pytest.mark.usefixtures("group")
def test_a_default_that_nobody_chose_does_not_undo_what_scale_set(workspace: Workspace) -> None:
    form = ProvisionForm(settings(), workspace=workspace)
    form.start(apply=True)
    assert ended(form) is RunStatus.DONE
    name = settings().resource_names().app
    apps = Cloud.shared().containerapps(SUBSCRIPTION).container_apps
    change = {"properties": {"template": {"scale": {"maxReplicas": 3}}}}
    apps.begin_update("my-rg", name, change).result()
    form.start(apply=True)
    assert ended(form) is RunStatus.DONE
    assert form.result().changed is False
    chosen = ProvisionForm(settings(max_replicas=1), workspace=workspace)
    chosen.start()
    ended(chosen)
    assert chosen.operation is not None
    assert "replicas, at most: 3 → 1" in str(chosen.operation.error)


@pytest.mark.usefixtures("group")
def test_first_the_plan_then_apply_and_the_result_is_that_of_the_function(workspace: Workspace) -> None:
    form = ProvisionForm(settings(), workspace=workspace)
    view = form.view
    assert form.blockers() == []
    assert view.run_button.description == "Plan"
    view.run_button.click()
    assert ended(form) is RunStatus.PLANNED
    assert "Would provision" in view._run_view._outcome.value
    assert view.apply_button in view._run_view.actions.children
    assert not workspace.path("infra/inference.config.json").exists()
    with pytest.raises(NotApplied):
        form.result()
    view.apply_button.click()
    assert ended(form) is RunStatus.DONE
    assert form.result().app == settings().resource_names().app
    assert form.operation is not None
    assert any(line.startswith("  container app") for line in form.operation.lines)
    assert json.loads(workspace.path("infra/inference.config.json").read_text())["ACA_APP_ENDPOINT"]
    until(lambda: "provisioned" in view._standing.value and form.result().app in view._standing.value)


@pytest.mark.usefixtures("group")
def test_places_are_picked_from_azures_lists_and_free_text_counts_too(workspace: Workspace) -> None:
    form = ProvisionForm(workspace=workspace)
    inputs = form.view._inputs
    subscription = inputs["subscription"].widget
    until(lambda: any(SUBSCRIPTION in option for option in subscription.options))
    subscription.value = next(option for option in subscription.options if SUBSCRIPTION in option)
    until(lambda: "my-rg" in inputs["resource_group"].widget.options)
    until(lambda: any("(westus3)" in option for option in inputs["location"].widget.options))
    assert form.view.sign_in_panel.layout.display == "none"
    inputs["resource_group"].widget.value = "typed-by-hand"
    inputs["location"].widget.value = next(
        option for option in inputs["location"].widget.options if "(westus3)" in option
    )
    made = form.settings
    assert (made.subscription, made.resource_group, made.location) == (
        SUBSCRIPTION,
        "typed-by-hand",
        "westus3",
    )


def test_blockers_live_while_somebody_types(workspace: Workspace) -> None:
    form = ProvisionForm(settings(resource_group=""), workspace=workspace)
    view = form.view
    assert view.run_button.disabled
    assert "No resource group is chosen" in view._blocked.value
    view._inputs["resource_group"].widget.value = "my-rg"
    assert not view.run_button.disabled
    view._inputs["engine"].widget.value = "vllm"
    assert "vLLM needs a GPU" in view._blocked.value
    with pytest.raises(InvalidSettings, match="vLLM needs a GPU"):
        form.result()


def test_what_fine_tuning_chose_is_filled_in(workspace: Workspace) -> None:
    tuned = {
        "SUBSCRIPTION_ID": SUBSCRIPTION,
        "RESOURCE_GROUP_NAME": "tuned",
        "STORAGE_ACCOUNT_NAME": "tunedstore",
    }
    workspace.path("infra/finetuning.config.json").write_text(json.dumps(tuned))
    form = ProvisionForm(workspace=workspace)
    assert (form.settings.resource_group, form.settings.storage_account) == ("tuned", "tunedstore")
    assert form.view._inputs["resource_group"].widget.value == "tuned"


@pytest.mark.usefixtures("group")
def test_cancel_reaches_azure(workspace: Workspace, azure_double: AzureDouble) -> None:
    form = ProvisionForm(settings(), workspace=workspace, apply=True)
    azure_double.clock.scale = SLOW
    view = form.view
    form.start(apply=True)
    assert form.operation is not None
    operation = form.operation
    until(lambda: any("being created" in line for line in operation.lines))
    view.cancel_button.click()
    assert ended(form) is RunStatus.CANCELLED
    with pytest.raises(Cancelled, match="What was created stays"):
        form.result()


@pytest.mark.usefixtures("group")
def test_a_form_takes_up_what_a_kernel_that_is_gone_has_started(
    workspace: Workspace, azure_double: AzureDouble
) -> None:
    names = settings().resource_names()
    deployment = ArmDeployment(Cloud.shared(), SUBSCRIPTION, "my-rg", f"nbtoolkit-{names.app}")
    azure_double.clock.scale = SLOW
    values = {"gpu": "none", "secrets": {"nbtoolkit-api-key": "k"}}
    deployment.start(template(), values, {}, Progress())
    form = ProvisionForm(settings(), workspace=workspace)
    view = form.view
    until(lambda: form.operation is not None)
    until(lambda: any("Taking up the deployment" in line for line in form.operation.lines))  # type: ignore[union-attr]
    assert view.cancel_button in view._run_view.actions.children
    azure_double.clock.scale = FAST
    assert (
        ended(form) is RunStatus.PLANNED
    )  # it was asked for with other settings, so there is something to do
    starts = [one for one in azure_double.requests if one.method == "PUT" and "/deployments/" in one.path]
    assert len(starts) == 1


def test_without_a_sign_in_the_panel_stands_on_top(
    workspace: Workspace, azure_double: AzureDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(login, "_shared", None)
    form = ProvisionForm(settings(), workspace=workspace)
    view = form.view
    until(lambda: view.sign_in_panel.layout.display is None)
    assert view.widget.children[0] is view.sign_in_panel
    until(lambda: "nobody is signed in" in view._standing.value)


# The notebook


def papermill(
    folder: Path, **parameters: str
) -> tuple[subprocess.CompletedProcess[str], nbformat.NotebookNode]:
    chosen = [part for name, value in parameters.items() for part in ("-p", name, value)]
    command = [
        sys.executable,
        "-m",
        "papermill",
        "notebooks/02_provision.ipynb",
        "out.ipynb",
        "--no-progress-bar",
    ]
    environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [*command, *chosen], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    return done, nbformat.read(folder / "out.ipynb", as_version=4)


@pytest.mark.usefixtures("group")
def test_the_notebook_plans_headless_and_with_apply_it_provisions(
    workspace: Workspace, repo: Path, azure_double: AzureDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.root / "notebooks").mkdir()
    shutil.copy(repo / "notebooks" / "02_provision.ipynb", workspace.root / "notebooks")
    monkeypatch.chdir(repo)
    chosen = {"subscription": SUBSCRIPTION, "resource_group": "my-rg", "gpu": "none"}
    done, _ = papermill(workspace.root, **chosen)
    assert done.returncode != 0
    assert "NotApplied" in done.stderr
    assert "Would provision" in done.stderr
    assert not [one for one in azure_double.requests if one.method == "PUT" and "/deployments/" in one.path]
    done, out = papermill(workspace.root, **chosen, apply="True")
    assert done.returncode == 0, done.stderr
    assert "azurecontainerapps.io" in json.dumps(out.cells[-1].outputs)
    assert json.loads(workspace.path("infra/inference.config.json").read_text())["ACA_APP_NAME"]
    secrets = (
        Cloud.shared()
        .containerapps(SUBSCRIPTION)
        .container_apps.list_secrets("my-rg", settings().resource_names().app)
    )
    for secret in secrets.value:
        assert secret.value not in done.stdout + done.stderr + json.dumps(out)
