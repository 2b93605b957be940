"""Canary secrets pass through all steps and are found only where expected."""

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


class RecordedRun:
    """Run all steps in a workspace and record everything that is displayed."""

    def __init__(self, double: AzureDouble, root: Path, searcher: SecretSearch) -> None:
        (root / "infra").mkdir(parents=True)
        self.workspace = Workspace(root)
        self.double = double
        self.searcher = searcher
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

    def add_keys(self) -> None:
        names = self.target().provisioned
        accounts = Cloud.shared().storage(SUBSCRIPTION).storage_accounts
        listed = accounts.list_keys(names.resource_group, names.storage_account).as_dict()["keys"]
        for key in listed:
            self.searcher.add_secret("account key", key["value"])
        self.searcher.add_secret("API key", self.target().endpoint().key.get_secret_value())

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
        """Run steps that fail and record the text of each error."""
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
        """Deploy again with papermill, in a process of its own."""
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
        self.searcher.add_text("papermill's output", done.stdout + done.stderr)

    def show(self, what: str, value: Any) -> None:
        """Record all representations of a value."""
        html = getattr(value, "_repr_html_", lambda: "")()
        for text in (repr(value), str(value), html):
            self.searcher.add_text(what, str(text))

    def show_error(self, what: str, error: NbtoolkitError) -> None:
        self.show(what, error)
        self.searcher.add_text(f"the facts of {what}", repr(vars(error)))
        self.searcher.add_text(f"the traceback of {what}", "".join(traceback.format_exception(error)))
        self.searcher.add_text(f"what a notebook shows of {what}", "\n".join(error._render_traceback_()))

    def target(self) -> AzureTarget:
        return AzureTarget(self.workspace, poll=0.1)

    def _settings(self, word: str) -> DeploySettings:
        folder = stub_deploy.adapter(self.workspace.root / "adapters" / word, word)
        stub_deploy.report(self.workspace, folder, self._base, word)
        return DeploySettings(
            adapters={"tone": folder}, base="tiny", target="azure", wheels_lock="none", timeout=30
        )


@pytest.mark.timeout(300)
def test_secrets_are_found_only_where_expected(
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
    searcher = SecretSearch({**CANARIES, "client secret": os.environ["AZURE_CLIENT_SECRET"]})
    searcher.watch(azure_double)
    recorded = RecordedRun(azure_double, tmp_path / "workspace", searcher)
    monkeypatch.chdir(recorded.workspace.root)
    with searcher.processes():
        recorded.provision()
        recorded.add_keys()
        recorded.deploy("first")
        recorded.deploy("second")
        recorded.operate()
        recorded.run_notebook(repo, stub_code, tmp_path)
        recorded.fail()
    out, err = capfd.readouterr()
    searcher.add_text("stdout", out)
    searcher.add_text("stderr", err)
    searcher.add_text("logs", "\n".join(record.getMessage() for record in caplog.records))
    names = recorded.target().provisioned
    share = azure_double.files.folder(names.storage_account, names.file_share)
    searcher.add_files(recorded.workspace.root, temporary, share)
    found = searcher.search()
    with capfd.disabled():
        print(
            f"\n{len(searcher.secrets)} secrets looked for in {searcher.searched} texts: {len(found)} found"
        )
    assert found == []
    assert {*CANARIES, "client secret"} <= searcher.expected, "a secret did not reach its expected place"


def test_secret_search_finds_planted_secrets(tmp_path: Path) -> None:
    searcher = SecretSearch({"canary": 'a "secret" / value'})
    (tmp_path / "file.json").write_text('{"x": "a \\"secret\\" / value"}')
    searcher.add_files(tmp_path)
    searcher.add_text("a query", "sig=a%20%22secret%22%20%2F%20value")
    with searcher.processes():
        program = "import sys, time; time.sleep(0.5)"
        subprocess.run([sys.executable, "-c", program, 'a "secret" / value'], check=True)
    assert len(searcher.search()) == 3
