"""A custom server on Azure: started by nbtoolkit's bootstrap, or by the app's own template."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from nbtoolkit import DeploySettings, deploy
from nbtoolkit.errors import DeployFailed, InvalidSettings
from tests.azure.conftest import MakePlace, deploy_adapter
from tests.support.azure_workspace import APP
from tests.support.recording_progress import until

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
def test_custom_server_is_uploaded_started_and_awaited(make_place: MakePlace) -> None:
    place = make_place()
    deploy_adapter(place, "brave")
    parameters = {"parameters": {"defaultCommands": {"value": ["cd /mount/inference", "python3 app.py"]}}}
    (place.workspace.root / "infra" / "inference.parameters.json").write_text(json.dumps(parameters))
    own = place.workspace.root / "inference"
    own.mkdir()
    settings = DeploySettings(server="own", target="azure", timeout=60)
    for word in ("mine", "changed"):
        (own / "app.py").write_text(CUSTOM_SERVER.replace("WORD", word))
        done = deploy(settings, target=place.target)
        assert done.how == "restart"
        assert httpx.get(done.endpoint.url).text == word
        assert place.target.status().state == "ready"
    (own / "app.py").write_text("raise SystemExit(3)")
    with pytest.raises(DeployFailed, match="start command 2 of 2 failed with exit code 3"):
        deploy(settings, target=place.target)
    assert deploy_adapter(place, "calm").how == "start"
    assert place.says() == "calm"


def test_app_of_another_template_is_refused(make_place: MakePlace) -> None:
    place = make_place()
    app: dict[str, Any] = place.target.app.get().template["containers"][0]
    foreign = {**app, "env": [], "command": ["python3", "-c", "import time; time.sleep(600)"], "probes": []}
    place.target.app.update({"template": {"containers": [foreign]}})
    with pytest.raises(InvalidSettings, match="was not made by this toolkit") as refused:
        deploy_adapter(place, "brave")
    assert "run provision()" in refused.value.next_step
    assert not (place.share / "nbtoolkit").exists()


def test_app_of_another_template_restarts_with_new_files(make_place: MakePlace) -> None:
    place = make_place()
    (place.share / "inference").mkdir(parents=True)
    (place.share / "inference" / "app.py").write_text(CUSTOM_SERVER.replace("WORD", "old"))
    app: dict[str, Any] = place.target.app.get().template["containers"][0]
    plain = [{"name": "PORT", "value": "7860"}]
    starts = ["python3", "/mount/inference/app.py"]
    foreign = {**app, "env": plain, "command": starts, "probes": []}
    place.target.app.update({"template": {"containers": [foreign], "scale": {"minReplicas": 1}}})
    until(lambda: [one.name for one in place.target.app.revisions() if one.active] == [f"{APP}--0000001"])
    until(lambda: place.target.replicas(refresh=True))

    own = place.workspace.root / "inference"
    own.mkdir()
    (own / "app.py").write_text(CUSTOM_SERVER.replace("WORD", "mine"))
    place.forget_requests()
    done = deploy(DeploySettings(server="own", target="azure", timeout=60), target=place.target)
    assert httpx.get(done.endpoint.url).text == "mine"
    assert [line.rpartition("/")[2] for line in place.arm_writes()] == ["restart"]

    (own / "app.py").write_text("raise SystemExit(3)")
    with pytest.raises(DeployFailed, match="is unchanged, with the new files in inference/"):
        deploy(DeploySettings(server="own", target="azure", timeout=60), target=place.target)
    assert not place.target.app.get().stopped
