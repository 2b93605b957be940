"""A custom server on Azure: started by nbtoolkit's bootstrap, or by the app's own template."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from nbtoolkit import DeploySettings, deploy
from nbtoolkit.errors import DeployFailed, InvalidSettings
from tests.support.azure_project import APP, MakeProject
from tests.support.wait import wait_until

CUSTOM_SERVER = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"WORD")

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
"""


@pytest.mark.all
def test_custom_server_is_uploaded_started_and_awaited(make_project: MakeProject) -> None:
    project = make_project()
    project.deploy("brave")
    parameters = {"parameters": {"defaultCommands": {"value": ["cd /mount/inference", "python3 app.py"]}}}
    (project.workspace.root / "infra" / "inference.parameters.json").write_text(json.dumps(parameters))
    own = project.workspace.root / "inference"
    own.mkdir()
    settings = DeploySettings(server="own", target="azure", timeout=60)
    for word in ("mine", "changed"):
        (own / "app.py").write_text(CUSTOM_SERVER.replace("WORD", word))
        done = deploy(settings, target=project.target)
        assert done.how == "restart"
        assert httpx.get(done.endpoint.url).text == word
        assert project.target.status().state == "ready"
    (own / "app.py").write_text("raise SystemExit(3)")
    with pytest.raises(DeployFailed, match="start command 2 of 2 failed with exit code 3"):
        deploy(settings, target=project.target)
    assert project.deploy("calm").how == "start"
    assert project.says() == "calm"


def test_app_of_another_template_is_refused(make_project: MakeProject) -> None:
    project = make_project()
    app: dict[str, Any] = project.target.app.get().template["containers"][0]
    foreign = {**app, "env": [], "command": ["python3", "-c", "import time; time.sleep(600)"], "probes": []}
    project.target.app.update({"template": {"containers": [foreign]}})
    with pytest.raises(InvalidSettings, match="was not made by this toolkit") as refused:
        project.deploy("brave")
    assert "run provision()" in refused.value.next_step
    assert not (project.share / "nbtoolkit").exists()


def test_app_of_another_template_restarts_with_new_files(make_project: MakeProject) -> None:
    project = make_project()
    (project.share / "inference").mkdir(parents=True)
    (project.share / "inference" / "app.py").write_text(CUSTOM_SERVER.replace("WORD", "old"))
    app: dict[str, Any] = project.target.app.get().template["containers"][0]
    plain = [{"name": "PORT", "value": "7860"}]
    starts = ["python3", "/mount/inference/app.py"]
    foreign = {**app, "env": plain, "command": starts, "probes": []}
    project.target.app.update({"template": {"containers": [foreign], "scale": {"minReplicas": 1}}})
    revisions = project.target.app.revisions
    wait_until(lambda: [one.name for one in revisions() if one.active] == [f"{APP}--0000001"])
    wait_until(lambda: project.target.replicas(refresh=True))

    own = project.workspace.root / "inference"
    own.mkdir()
    (own / "app.py").write_text(CUSTOM_SERVER.replace("WORD", "mine"))
    project.forget_requests()
    done = deploy(DeploySettings(server="own", target="azure", timeout=60), target=project.target)
    assert httpx.get(done.endpoint.url).text == "mine"
    assert [line.rpartition("/")[2] for line in project.arm_writes()] == ["restart"]

    (own / "app.py").write_text("raise SystemExit(3)")
    with pytest.raises(DeployFailed, match="is unchanged, with the new files in inference/"):
        deploy(DeploySettings(server="own", target="azure", timeout=60), target=project.target)
    assert not project.target.app.get().stopped
