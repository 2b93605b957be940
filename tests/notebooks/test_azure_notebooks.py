"""Notebooks 01 to 06 under papermill against the double, and runs of them that must fail.

The engine is the stub: a start-up file of the kernels' IPython profile lets deploys send the code with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbtoolkit import AzureTarget, Workspace
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.releases import publisher
from nbtoolkit.serving.share_layout import release_path, report_path
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support.stub_deploy import adapter, base, report, use_stub_in_kernels
from tests.support.tiny_models import tiny_adapter, tiny_base

CANARY = "hf_canary-0123456789abcdef"


@dataclass(frozen=True)
class NotebookResult:
    """The result of a run: exit code, papermill's output, and the texts of the notebook's outputs."""

    code: int
    output: str
    notebook: Any

    @property
    def text(self) -> str:
        """Return the text of all outputs, including errors."""
        shown: list[str] = []
        for cell in self.notebook.cells:
            for output in cell.get("outputs", []):
                shown += [output.get("text", ""), *output.get("traceback", [])]
                shown.append(output.get("data", {}).get("text/plain", ""))
        return "\n".join(shown)

    @property
    def last(self) -> str:
        """The text of the last cell's result."""
        cells = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
        return cells[-1].outputs[-1]["data"]["text/plain"]


class NotebookWorkspace:
    """A workspace with the notebooks, and a profile whose kernels deploy the stub."""

    def __init__(self, repo: Path, root: Path, code: Path) -> None:
        self.root = root
        shutil.copytree(repo / "notebooks", root / "notebooks")
        use_stub_in_kernels(root.parent / "ipython", code)
        self._environment = {**os.environ, "IPYTHONDIR": str(root.parent / "ipython"), "HF_TOKEN": CANARY}

    def run(self, name: str, *parameters: str) -> NotebookResult:
        """Run a notebook as `papermill NOTEBOOK out.ipynb PARAMETERS` does in a terminal."""
        command = [sys.executable, "-m", "papermill", f"notebooks/{name}.ipynb", "out.ipynb", *parameters]
        done = subprocess.run(
            [*command, "--no-progress-bar"],
            cwd=self.root,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return NotebookResult(
            done.returncode, done.stdout + done.stderr, nbformat.read(self.root / "out.ipynb", as_version=4)
        )


@pytest.fixture
def runs(repo: Path, stub_code: Path, tmp_path: Path, azure_double: AzureDouble) -> NotebookWorkspace:
    assert azure_double.requests == []
    azure_double.apps.limits.cooldown = 600  # the app stays awake between notebooks on a slow machine too
    root = tmp_path / "project"
    (root / "infra").mkdir(parents=True)
    return NotebookWorkspace(repo, root, stub_code)


def secrets_of(target: AzureTarget) -> list[str]:
    """Return the texts that no output may contain: all keys, the token and the client secret."""
    keys = (
        Cloud.shared()
        .storage(SUBSCRIPTION)
        .storage_accounts.list_keys(target.provisioned.resource_group, target.provisioned.storage_account)
    )
    values = [key["value"] for key in keys.as_dict()["keys"]]
    return [target.endpoint().key.get_secret_value(), CANARY, os.environ["AZURE_CLIENT_SECRET"], *values]


def publish_unserved(workspace: Workspace, target: AzureTarget) -> None:
    """Publish a release whose fingerprint is another adapter's; the server refuses it and serves on."""
    active = publisher.active_pointer(target.share)
    assert active
    release = publisher.read_release(target.share, active.release)
    other = report(workspace, adapter(workspace.root / "other", "calm"), workspace.root / "tiny", "calm")
    sha256 = hashlib.sha256(other.read_bytes()).hexdigest()
    target.share.write(report_path(sha256), other.read_bytes(), overwrite=True)
    release = release.model_copy(update={"reports": {"tone": sha256}})
    target.share.write(release_path(release.id), release.model_dump_json().encode(), overwrite=True)
    publisher.publish_release(target.share, release.id, expected=active.n, by="test")


@pytest.mark.timeout(300)
def test_notebooks_run_from_provision_to_teardown(
    runs: NotebookWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(runs.root)
    base(runs.root / "tiny")
    tone = adapter(runs.root / "adapters" / "tone", "brave")
    report(workspace, tone, runs.root / "tiny", "brave")
    place = ("-r", "subscription", SUBSCRIPTION, "-r", "resource_group", "rg-notebooks")
    new = (*place, "-r", "location", "westus3", "-r", "gpu", "none", "-p", "create_resource_group", "True")

    planned = runs.run("02_provision", *new)
    assert planned.code != 0
    assert "NotApplied: Nothing was created yet." in planned.text
    assert "Next: read the plan, then press Apply, or run the step with apply=True" in planned.text
    assert not (runs.root / "infra" / "inference.config.json").exists()

    provisioned = runs.run("02_provision", *new, "-p", "apply", "True", "-y", "secrets: [HF_TOKEN]")
    assert provisioned.code == 0, provisioned.output
    assert "azurecontainerapps.io" in provisioned.last
    assert "portal.azure.com" in provisioned.last

    deployed = runs.run(
        "03_deploy", "-r", "adapters", "adapters/tone", "-r", "base", "tiny", "-r", "wheels_lock", "none"
    )
    assert deployed.code == 0, deployed.output
    assert "proven" in deployed.last
    assert "Waiting until the server serves" in deployed.text

    asked = runs.run("04_inference", "-y", 'prompts: ["Hello!", "How are you?"]')
    assert asked.code == 0, asked.output
    assert "brave" in asked.text
    assert "How are you?" in asked.text

    proved = runs.run("06_prove")
    assert proved.code == 0, proved.output
    assert proved.last == "'proven'"
    assert "proven: 16 of 16 contexts" in proved.text

    target = AzureTarget(workspace)
    app = target.provisioned.app
    hidden = secrets_of(target)
    publish_unserved(workspace, target)
    refuted = runs.run("06_prove")
    assert refuted.code != 0
    assert "NotProven: Release r-" in refuted.output
    assert ": refuted" in refuted.text
    assert "Next: deploy() this release again, or rollback()" in refuted.text

    wrong = runs.run("05_operate", "-r", "confirm_name", "another-app")
    assert wrong.code != 0
    assert "ready: it answers" in wrong.text
    assert f"confirm_name is 'another-app', and the app is '{app}': nothing was deleted." in wrong.text
    assert target.app.get().name == app

    gone = runs.run("05_operate", "-r", "scope", "all", "-r", "confirm_name", app)
    assert gone.code == 0, gone.output
    if folder := os.environ.get("NBTOOLKIT_TEXTS"):
        for name, ran in {"02": planned, "02b": provisioned, "03": deployed, "04": asked, "05": gone}.items():
            Path(folder, f"{name}.txt").write_text(ran.text)
    assert "deleted  container app" in gone.last

    for ran in (planned, provisioned, deployed, asked, proved, refuted, wrong, gone):
        found = ran.output + json.dumps(ran.notebook)
        assert not [value for value in hidden if value in found]
        assert "widget-view" not in found
        assert "\x1b[" not in ran.text.replace("\x1b[0", "")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "parameters", "says", "next_step"),
    [
        ("02_provision", ["-r", "subscripton", "x"], "subscripton", "subscription"),
        ("05_operate", [], "inference.config.json does not exist", "run provision()"),
    ],
    ids=["misspelt", "not provisioned"],
)
def test_a_failed_run_reports_the_next_step(
    runs: NotebookWorkspace, name: str, parameters: Sequence[str], says: str, next_step: str
) -> None:
    ran = runs.run(name, *parameters)
    assert ran.code != 0
    assert says in ran.text
    assert next_step in ran.text
    assert "Next:" in ran.text
    assert next_step in ran.output


@pytest.mark.timeout(120)
def test_smoke_test_runs_on_a_real_model_and_fails_for_an_invalid_adapter(runs: NotebookWorkspace) -> None:
    tiny_base(runs.root / "tiny")
    tiny_adapter(runs.root / "good", runs.root / "tiny", seed=1)
    green = runs.run("01_smoke_test", "-r", "adapter", "good", "-r", "base", "tiny", "-y", "levels: [static]")
    assert green.code == 0, green.output
    assert "A1" in green.text
    weights = runs.root / "good" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    bad = runs.run("01_smoke_test", "-r", "adapter", "good", "-r", "base", "tiny", "-y", "levels: [static]")
    assert bad.code != 0
    assert "A1" in bad.text
    assert "Next:" in bad.text


def test_notebooks_are_committed_without_outputs_and_name_their_kernel(repo: Path) -> None:
    found = sorted((repo / "notebooks").glob("*.ipynb"))
    assert [path.name[:2] for path in found] == ["00", "01", "02", "03", "04", "05", "06"]
    for path in found:
        notebook = nbformat.read(path, as_version=4)
        assert notebook.metadata["kernelspec"]["name"] == "python3"
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert cells[0].metadata["tags"] == ["parameters"]
        assert not [cell for cell in cells if cell.outputs or cell.execution_count]
