"""The provision form: suggestions from Azure, plan and apply, resume, sign-in, and the notebook."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbtoolkit.azure.arm.deployment import ArmDeployment, load_template
from nbtoolkit.azure.auth import shared_credential
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import Cancelled, InvalidSettings, NotApplied
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import ProvisionSettings
from nbtoolkit.widgets import ProvisionForm
from nbtoolkit.widgets.forms.background_run import RunStatus
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support.wait import wait_until

FAST, SLOW = 0.002, 0.03


def settings(**values: Any) -> ProvisionSettings:
    return ProvisionSettings(
        **{"subscription": SUBSCRIPTION, "resource_group": "my-rg", "gpu": "none", **values}
    )


@pytest.fixture
def workspace(azure: AzureDouble, workspace_root: Path) -> Workspace:
    azure.clock.scale = FAST
    return Workspace(workspace_root)


@pytest.fixture
def group(workspace: Workspace) -> None:
    groups = Cloud.shared().resources(SUBSCRIPTION).resource_groups
    groups.create_or_update("my-rg", {"location": "westus3"})


def final_status(form: ProvisionForm) -> RunStatus:
    assert form.current_run is not None
    form.current_run.wait(60)
    return form.current_run.status


@pytest.mark.usefixtures("group")
def test_an_unchosen_default_does_not_change_the_scale_of_the_app(workspace: Workspace) -> None:
    form = ProvisionForm(settings(), workspace=workspace)
    form.start(apply=True)
    assert final_status(form) is RunStatus.DONE
    name = settings().resource_names().app
    apps = Cloud.shared().containerapps(SUBSCRIPTION).container_apps
    change = {"properties": {"template": {"scale": {"maxReplicas": 3}}}}
    apps.begin_update("my-rg", name, change).result()
    form.start(apply=True)
    assert final_status(form) is RunStatus.DONE
    assert form.result().changed is False
    chosen = ProvisionForm(settings(max_replicas=1), workspace=workspace)
    chosen.start()
    final_status(chosen)
    assert chosen.current_run is not None
    assert "maximum replicas: 3 → 1" in str(chosen.current_run.error)


@pytest.mark.usefixtures("group")
def test_plan_then_apply_and_result(workspace: Workspace) -> None:
    form = ProvisionForm(settings(), workspace=workspace)
    view = form.view
    assert form.blockers() == []
    assert view.run_button.description == "Plan"
    view.run_button.click()
    assert final_status(form) is RunStatus.PLANNED
    assert "Would provision" in view._run_view._outcome.value
    assert view.apply_button in view._run_view.actions.children
    assert not workspace.path("infra/inference.config.json").exists()
    with pytest.raises(NotApplied):
        form.result()
    view.apply_button.click()
    assert final_status(form) is RunStatus.DONE
    assert form.result().app == settings().resource_names().app
    assert form.current_run is not None
    assert any(line.startswith("  container app") for line in form.current_run.lines)
    assert json.loads(workspace.path("infra/inference.config.json").read_text())["ACA_APP_ENDPOINT"]
    wait_until(lambda: "provisioned" in view._status.value and form.result().app in view._status.value)


@pytest.mark.usefixtures("group")
def test_subscription_group_and_region_are_suggested_and_free_text_is_accepted(workspace: Workspace) -> None:
    form = ProvisionForm(workspace=workspace)
    inputs = form.view._inputs
    subscription = inputs["subscription"].widget
    wait_until(lambda: any(SUBSCRIPTION in option for option in subscription.options))
    subscription.value = next(option for option in subscription.options if SUBSCRIPTION in option)
    wait_until(lambda: "my-rg" in inputs["resource_group"].widget.options)
    wait_until(lambda: any("(westus3)" in option for option in inputs["location"].widget.options))
    assert form.view.sign_in_panel.layout.display == "none"
    inputs["resource_group"].widget.value = "typed-by-hand"
    inputs["location"].widget.value = next(
        option for option in inputs["location"].widget.options if "(westus3)" in option
    )
    chosen = form.settings
    assert (chosen.subscription, chosen.resource_group, chosen.location) == (
        SUBSCRIPTION,
        "typed-by-hand",
        "westus3",
    )


def test_blockers_are_updated_while_typing(workspace: Workspace) -> None:
    form = ProvisionForm(settings(resource_group=""), workspace=workspace)
    view = form.view
    assert view.run_button.disabled
    assert "No resource group is chosen" in view._blockers.value
    view._inputs["resource_group"].widget.value = "my-rg"
    assert not view.run_button.disabled
    view._inputs["engine"].widget.value = "vllm"
    assert "vLLM needs a GPU" in view._blockers.value
    with pytest.raises(InvalidSettings, match="vLLM needs a GPU"):
        form.result()


def test_values_of_the_fine_tuning_files_are_filled_in(workspace: Workspace) -> None:
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
def test_cancel_cancels_the_deployment_in_azure(workspace: Workspace, azure: AzureDouble) -> None:
    form = ProvisionForm(settings(), workspace=workspace, apply=True)
    azure.clock.scale = SLOW
    view = form.view
    form.start(apply=True)
    assert form.current_run is not None
    run = form.current_run
    wait_until(lambda: any("being created" in line for line in run.lines))
    view.cancel_button.click()
    assert final_status(form) is RunStatus.CANCELLED
    with pytest.raises(Cancelled, match="Created resources stay"):
        form.result()


@pytest.mark.usefixtures("group")
def test_a_form_resumes_the_deployment_of_another_kernel(workspace: Workspace, azure: AzureDouble) -> None:
    names = settings().resource_names()
    deployment = ArmDeployment(Cloud.shared(), SUBSCRIPTION, "my-rg", f"nbtoolkit-{names.app}")
    azure.clock.scale = SLOW
    values = {"gpu": "none", "secrets": {"nbtoolkit-api-key": "k"}}
    deployment.start(load_template(), values, {}, Progress())
    form = ProvisionForm(settings(), workspace=workspace)
    view = form.view
    wait_until(lambda: form.current_run is not None)
    wait_until(lambda: any("Waiting for the running deployment" in line for line in form.current_run.lines))  # type: ignore[union-attr]
    assert view.cancel_button in view._run_view.actions.children
    azure.clock.scale = FAST
    # the form has other settings, so there are changes to apply
    assert final_status(form) is RunStatus.PLANNED
    starts = [
        request for request in azure.requests if request.method == "PUT" and "/deployments/" in request.path
    ]
    assert len(starts) == 1


def test_without_a_sign_in_the_panel_is_displayed_first(
    workspace: Workspace, azure: AzureDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(shared_credential, "_shared", None)
    form = ProvisionForm(settings(), workspace=workspace)
    view = form.view
    wait_until(lambda: view.sign_in_panel.layout.display is None)
    assert view.widget.children[0] is view.sign_in_panel
    wait_until(lambda: "no sign-in" in view._status.value)


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
def test_the_headless_notebook_plans_and_with_apply_provisions(
    workspace: Workspace, repo: Path, azure: AzureDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.root / "notebooks").mkdir()
    shutil.copy(repo / "notebooks" / "02_provision.ipynb", workspace.root / "notebooks")
    monkeypatch.chdir(repo)
    chosen = {"subscription": SUBSCRIPTION, "resource_group": "my-rg", "gpu": "none"}
    done, _ = papermill(workspace.root, **chosen)
    assert done.returncode != 0
    assert "NotApplied" in done.stderr
    assert "Would provision" in done.stderr
    assert not [
        request for request in azure.requests if request.method == "PUT" and "/deployments/" in request.path
    ]
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
