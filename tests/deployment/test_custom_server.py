"""A custom server: its folder is uploaded, its start commands run, and no fingerprint is claimed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nbtoolkit import LocalTarget, deploy, prove, rollback
from nbtoolkit.errors import DeployFailed, InvalidSettings
from nbtoolkit.local import launch_spec
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from tests.support.processes import processes_of
from tests.support.stub_deploy import LocalProject
from tests.support.wait import wait_until

SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
import helper

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404)
        self.end_headers()
        self.wfile.write(f"{helper.WORD} {os.environ.get('FROM_COMMAND')} {os.getcwd()}".encode())

print("token", os.environ.get("HF_TOKEN"), flush=True)
HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""
COMMANDS = ["cd /mount/inference", "export FROM_COMMAND=yes", "python3 ./server.py"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalProject]:
    """A workspace with a custom server, run by the Python of this environment."""
    monkeypatch.setattr(
        launch_spec, "create_environment", lambda folder, progress: Path(sys.executable).parent
    )
    project = LocalProject(tmp_path / "workspace")
    write(project)
    yield project
    project.target.destroy()


def write(
    project: LocalProject, commands: list[str] = COMMANDS, word: str = "hello", port: str | None = None
) -> None:
    folder = project.workspace.root / "inference"
    folder.mkdir(exist_ok=True)
    (folder / "server.py").write_text(SERVER.replace("PORT", port or "int(os.environ['PORT'])"))
    (folder / "helper.py").write_text(f"WORD = {word!r}\n")
    parameters = project.workspace.root / "infra/provision/inference.parameters.json"
    parameters.parent.mkdir(exist_ok=True)
    parameters.write_text(json.dumps({"parameters": {"defaultCommands": {"value": commands}}}))


def answer_of(project: LocalProject) -> str:
    return httpx.get(project.target.endpoint().url).text


def test_custom_server_runs_its_commands_without_a_fingerprint_proof(project: LocalProject) -> None:
    done = deploy(project.settings(None, server="own"), target=project.target)
    assert answer_of(project) == f"hello yes {project.target.mount / 'inference'}"
    assert not done.proof
    assert "not proven" in str(done)
    assert done.sync.sent_files >= 2
    status = project.target.status()
    assert status.state == "ready"
    assert "not proven" in status.summary
    again = prove(LocalTarget(project.workspace, keep=False))
    assert (bool(again), again.state, again.cost.requests) == (False, "not proven", 0)
    assert "check yourself" in again.not_proven["your own server"]


def test_deploying_changed_code_sends_only_that_and_restarts(project: LocalProject) -> None:
    settings = project.settings(None, server="own")
    deploy(settings, target=project.target)
    write(project, word="changed")
    (project.target.mount / "inference/made-by-the-server.txt").write_text("keep me")
    done = deploy(settings, target=project.target)
    assert answer_of(project).startswith("changed yes")
    assert done.sync.sent_files == 2  # the helper, and the release that names it
    assert done.how == "restart"
    assert (project.target.mount / "inference/made-by-the-server.txt").read_text() == "keep me"


def test_a_repeated_deploy_of_2000_files_sends_none_and_restarts_the_server(project: LocalProject) -> None:
    for number in range(2_000):
        file = project.workspace.root / f"inference/assets/{number % 20}/{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number}")
    settings = project.settings(None, server="own")
    first = deploy(settings, target=project.target)
    assert first.sync.sent_files == 2_003  # the server's two, and the release
    again = deploy(settings, target=project.target)
    assert (again.sync.sent_files, again.sync.sent_bytes) == (0, 0)
    assert again.sync.skipped_files >= 2_002
    assert (again.how, again.release) == ("restart", first.release)
    assert len(publisher.pointer_history(project.target.share)) == 1
    assert answer_of(project).startswith("hello")


def test_first_failing_command_ends_the_start_and_is_named(project: LocalProject) -> None:
    commands = [
        "cd /mount/inference",
        "false && true",
        "touch /mount/inference/started",
        "python3 ./server.py",
    ]
    write(project, commands)
    with pytest.raises(DeployFailed, match="start command 2 of 4 failed with exit code 1"):
        deploy(project.settings(None, server="own"), target=project.target)
    assert not (project.target.mount / "inference/started").exists()
    assert processes_of(project.target) == []


def test_fixed_port_of_the_code_is_found(project: LocalProject) -> None:
    project.target = LocalTarget(project.workspace, keep=False, port=17860)
    write(project, port="18765")
    done = deploy(project.settings(None, server="own"), target=project.target)
    assert done.endpoint.url == "http://127.0.0.1:18765"
    write(project, port="18766")
    done = deploy(project.settings(None, server="own", own_port=18766), target=project.target)
    assert done.endpoint.url == "http://127.0.0.1:18766"
    assert answer_of(project).startswith("hello")


def test_hub_token_reaches_custom_server_and_not_its_log(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijk")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "hush-hush-hush")
    deploy(project.settings(None, server="own"), target=project.target)
    # The launcher copies the server's output to the log a moment after the server has written it.
    wait_until(lambda: "token " in "".join(project.target.logs()))
    log = "\n".join(project.target.logs())
    assert "token **********" in log
    assert "hf_abcdefghijk" not in log


@pytest.mark.usefixtures("stub_engine")
def test_custom_server_and_gateway_replace_each_other(project: LocalProject) -> None:
    first = project.deploy("red")
    mine = deploy(project.settings(None, server="own"), target=project.target)
    assert answer_of(project).startswith("hello")
    assert rollback(target=project.target).release.id == first.release.id
    assert project.says() == "red"
    assert rollback(mine.release.id, target=project.target).how == "restart"
    assert answer_of(project).startswith("hello")
    with pytest.raises(DeployFailed, match=rf"missing keys(.|\n)*{mine.release.id} serves again"):
        deploy(project.settings(project.adapter("bad", on_load="refuse")), target=project.target)
    assert answer_of(project).startswith("hello")
    write(project, ["exit 3"])
    with pytest.raises(DeployFailed, match=r"nothing runs now(.|\n)*failed with exit code 3"):
        deploy(project.settings(None, server="own"), target=project.target)
    with pytest.raises(InvalidSettings, match="holds newer files"):
        rollback(mine.release.id, target=project.target)


def test_missing_settings_are_reported_before_the_start(project: LocalProject) -> None:
    write(project, [])
    with pytest.raises(InvalidSettings, match="has no defaultCommands"):
        deploy(project.settings(None, server="own"), target=project.target)
    for file in (project.workspace.root / "inference").iterdir():
        file.unlink()
    (project.workspace.root / "inference").rmdir()
    with pytest.raises(InvalidSettings, match="does not exist"):
        deploy(project.settings(None, server="own"), target=project.target)


@pytest.mark.parametrize(
    ("command", "mapped"),
    [
        ("cd /mount", "cd /s/h"),
        ("cd /mount/inference", "cd /s/h/inference"),
        ("ls '/mount/a' \"/mount\";cat</mount/b", "ls '/s/h/a' \"/s/h\";cat</s/h/b"),
        ("X=/mount:/mount/y run", "X=/s/h:/s/h/y run"),
        (
            "ls /mounted /mount-2 /mnt/mount a/mount ./mount",
            "ls /mounted /mount-2 /mnt/mount a/mount ./mount",
        ),
    ],
)
def test_mount_path_is_replaced_only_as_a_whole_path(command: str, mapped: str) -> None:
    assert launch_spec.replace_mount([command], Path("/s/h")) == (mapped,)


def test_share_path_that_needs_quotes_is_refused_in_a_command() -> None:
    with pytest.raises(InvalidSettings, match="'/a b/share'"):
        launch_spec.replace_mount(["cd /mount"], Path("/a b/share"))
    assert launch_spec.replace_mount(["true"], Path("/a b/share")) == ("true",)


@pytest.mark.parametrize(
    ("commands", "code", "message"),
    [
        (["X=1", "cd /tmp", 'echo "$X $PWD"'], 0, "1 /tmp"),
        (["echo a", "exit 4", "echo b"], 4, "start command 2 of 3 failed with exit code 4"),
        (["(exit 5); echo no"], 5, "command 1 of 1"),
        (["if false; then echo no; fi", "echo yes"], 0, "yes"),
    ],
)
def test_commands_share_one_shell_that_ends_at_the_first_failure(
    commands: list[str], code: int, message: str
) -> None:
    done = subprocess.run(
        [launch_spec.shell(), "-c", launch_spec.start_script(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert message in done.stdout + done.stderr
    assert "no\n" not in done.stdout


def test_custom_server_python_uses_this_environment_and_does_not_change_it(tmp_path: Path) -> None:
    programs = launch_spec.create_environment(tmp_path / "own", Progress())
    code = "import pydantic, sys, sysconfig; print(sys.prefix, sysconfig.get_path('purelib'))"
    out = subprocess.run([programs / "python3", "-c", code], capture_output=True, text=True, check=True)
    prefix, packages = out.stdout.split()
    assert Path(prefix) == tmp_path / "own"
    assert Path(packages).is_relative_to(tmp_path)
    assert (programs / "pip").exists()
    made = (tmp_path / "own/complete").stat().st_mtime_ns
    assert launch_spec.create_environment(tmp_path / "own", Progress()) == programs
    assert (tmp_path / "own/complete").stat().st_mtime_ns == made
