"""Canary secrets go through all steps and are found only where they belong."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import (
    AzureTarget,
    DeploySettings,
    PrintProgress,
    ProvisionSettings,
    SecretSettings,
    TeardownSettings,
    Workspace,
    deploy,
    provision,
    put_secret,
    teardown,
)
from nbtoolkit.azure.auth.shared_credential import SharedCredential
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import NbtoolkitError
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.azure_double.faults import Broken, ExpiredToken, Reset
from tests.fault_matrix.fast_azure import POLL_INTERVAL, SCALE, short_timeouts
from tests.support import stub_deploy
from tests.support.secret_search import SecretSearch

CANARIES = {
    "HF token": "hf_canary-7f3a9b1c5d",
    "registry password": "reg canary+/&%7f3a9b1c5d",
    "environment secret": "env-canary-7f3a9b1c5d",
    "put secret": 'put"canary\\7f3a9b1c5d',
}
FAILURES = (
    ("POST", "/oauth2/v2.0/token", Broken(503)),
    ("GET", "management.azure.com", ExpiredToken()),
    ("POST", "listSecrets", Reset("answer")),
    ("(GET|PUT)", "file.core.windows.net", Broken(403, "AuthenticationFailed")),
    ("PUT", "/deployments/", Broken(400, "InvalidTemplateDeployment")),
)


class Road:
    """A workspace that goes the whole road, and everything it shows on the way."""

    def __init__(self, double: AzureDouble, root: Path, hunt: SecretSearch) -> None:
        (root / "infra").mkdir(parents=True)
        self.workspace = Workspace(root)
        self.double = double
        self.hunt = hunt
        self._base = stub_deploy.base(root / "tiny")
        self.settings = ProvisionSettings(
            subscription=SUBSCRIPTION,
            resource_group="rg-secrets",
            location="westus3",
            gpu="none",
            create_resource_group=True,
            hf_token=CANARIES["HF token"],
            registry_server="mine.azurecr.io",
            registry_username="me",
            registry_password=CANARIES["registry password"],
            image="mine.azurecr.io/server:1",
            secrets=["MY_SECRET"],
            remember=True,
        )

    def provision(self) -> None:
        try:
            self.show("a plan", provision(self.settings, workspace=self.workspace))
        except NbtoolkitError as error:
            self.show_error("a plan", error)
        self.show(
            "a provision",
            provision(self.settings, apply=True, workspace=self.workspace, progress=PrintProgress()),
        )

    def learn_keys(self) -> None:
        names = self.target().provisioned
        accounts = Cloud.shared().storage(SUBSCRIPTION).storage_accounts
        listed = accounts.list_keys(names.resource_group, names.storage_account).as_dict()["keys"]
        for key in listed:
            self.hunt.add_secret("account key", key["value"])
        self.hunt.add_secret("API key", self.target().endpoint().key.get_secret_value())

    def deploy(self, word: str) -> None:
        self.show(
            "a deployment", deploy(self._settings(word), target=self.target(), progress=PrintProgress())
        )

    def operate(self) -> None:
        target = self.target()
        for what, shown in (
            ("status", target.status()),
            ("the endpoint", target.endpoint()),
            ("its health", target.endpoint().health()),
            ("the target", target),
            ("the cloud", target.cloud),
            ("the credential", target.cloud.credential),
            ("the share", target.share),
            ("the settings", self.settings),
            ("logs", "\n".join(target.logs(tail=300))),
            ("a secret's settings", secret := SecretSettings(name="OTHER", value=CANARIES["put secret"])),
            ("a secret that was put", put_secret(secret, target=target)),
            ("a teardown's plan", teardown(TeardownSettings(scope="all"), workspace=self.workspace)),
        ):
            self.show(what, shown)

    def fail(self) -> None:
        """Run steps that fail in many ways, and look at what each error shows."""
        changed = self.settings.with_values(max_replicas=3)
        for number, (method, where, kind) in enumerate(FAILURES):
            self.double.faults.on(method, where, kind, times=1_000_000)
            cloud = Cloud(SharedCredential(), poll_interval=POLL_INTERVAL)
            target = AzureTarget(self.workspace, cloud, poll=0.1)
            runs = (
                lambda cloud=cloud: provision(changed, apply=True, workspace=self.workspace, cloud=cloud),
                lambda target=target, n=number: deploy(self._settings(f"fails{n}"), target=target),
                lambda target=target: target.status(),
                lambda target=target: list(target.logs(tail=20)),
                lambda target=target: put_secret(
                    SecretSettings(name="OTHER", value=CANARIES["put secret"]), target=target
                ),
            )
            for run in runs:
                try:
                    run()
                except NbtoolkitError as error:
                    self.show_error(f"{where} failing", error)
            self.double.faults.clear()
            cloud.close()

    def run_notebook(self, repo: Path, code: Path, tmp_path: Path) -> None:
        """Deploy once more by papermill, in a process of its own."""
        stub_deploy.use_stub_in_kernels(tmp_path / "ipython", code)
        self._settings("paper")
        notebook = repo / "notebooks" / "03_deploy.ipynb"
        command = [sys.executable, "-m", "papermill", str(notebook), "out.ipynb", "--no-progress-bar"]
        given = {"adapters": "adapters/paper", "base": "tiny", "wheels_lock": "none", "target": "azure"}
        parameters = [part for name, value in given.items() for part in ("-r", name, value)]
        done = subprocess.run(
            [*command, *parameters],
            cwd=self.workspace.root,
            env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.hunt.add_text("papermill's output", done.stdout + done.stderr)

    def show(self, what: str, value: Any) -> None:
        """Look at all that a value shows of itself."""
        html = getattr(value, "_repr_html_", lambda: "")()
        for text in (repr(value), str(value), html):
            self.hunt.add_text(what, str(text))

    def show_error(self, what: str, error: NbtoolkitError) -> None:
        self.show(what, error)
        self.hunt.add_text(f"the facts of {what}", repr(vars(error)))
        self.hunt.add_text(f"the traceback of {what}", "".join(traceback.format_exception(error)))
        self.hunt.add_text(f"what a notebook shows of {what}", "\n".join(error._render_traceback_()))

    def target(self) -> AzureTarget:
        return AzureTarget(self.workspace, poll=0.1)

    def _settings(self, word: str) -> DeploySettings:
        folder = stub_deploy.adapter(self.workspace.root / "adapters" / word, word)
        stub_deploy.report(self.workspace, folder, self._base, word)
        return DeploySettings(
            adapters={"tone": folder}, base="tiny", target="azure", wheels_lock="none", timeout=30
        )


@pytest.mark.timeout(300)
def test_no_secret_is_found_outside_its_place(
    azure_double: AzureDouble,
    repo: Path,
    stub_code: Path,
    stub_engine: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("MY_SECRET", CANARIES["environment secret"])
    short_timeouts(monkeypatch)
    azure_double.clock.scale = SCALE
    hunt = SecretSearch({**CANARIES, "client secret": os.environ["AZURE_CLIENT_SECRET"]})
    hunt.watch(azure_double)
    road = Road(azure_double, tmp_path / "workspace", hunt)
    monkeypatch.chdir(road.workspace.root)
    with hunt.processes():
        road.provision()
        road.learn_keys()
        road.deploy("first")
        road.deploy("second")
        road.operate()
        road.run_notebook(repo, stub_code, tmp_path)
        road.fail()
    out, err = capfd.readouterr()
    hunt.add_text("stdout", out)
    hunt.add_text("stderr", err)
    hunt.add_text("logs", "\n".join(record.getMessage() for record in caplog.records))
    names = road.target().provisioned
    share = azure_double.files.folder(names.storage_account, names.file_share)
    hunt.add_files(road.workspace.root, temporary, share)
    found = hunt.search()
    with capfd.disabled():
        print(f"\n{len(hunt.secrets)} secrets looked for in {hunt.searched} texts: {len(found)} found")
    assert found == []
    assert {*CANARIES, "client secret"} <= hunt.expected, "a secret did not get where it belongs"


def test_the_hunt_finds_what_is_planted(tmp_path: Path) -> None:
    hunt = SecretSearch({"canary": 'a "secret" / value'})
    (tmp_path / "file.json").write_text('{"x": "a \\"secret\\" / value"}')
    hunt.add_files(tmp_path)
    hunt.add_text("a query", "sig=a%20%22secret%22%20%2F%20value")
    with hunt.processes():
        program = "import sys, time; time.sleep(0.5)"
        subprocess.run([sys.executable, "-c", program, 'a "secret" / value'], check=True)
    assert len(hunt.search()) == 3
