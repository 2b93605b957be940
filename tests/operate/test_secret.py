"""Secrets of the app, through the real SDKs against the double."""

from __future__ import annotations

import pytest

from nbtoolkit import (
    SecretSettings,
    put_secret,
)
from nbtoolkit.errors import InvalidSettings, QuotaShort
from tests.support.azure_project import APP, AzureProject, MakeProject
from tests.support.operated_app import A100_QUOTA, app_properties, writes
from tests.support.recording_progress import RecordingProgress
from tests.support.wait import wait_until

CANARY = "hf_canary-0123456789abcdef"


def is_rolled_out(project: AzureProject) -> bool:
    """Whether the newest revision has taken over."""
    now = project.target.app.get()
    return now.latest_ready_revision == now.latest_revision


def test_a_new_secret_keeps_all_others_and_starts_a_revision_that_reads_it(make_project: MakeProject) -> None:
    project, progress = make_project(), RecordingProgress()
    project.deploy("brave")
    key = project.target.endpoint().key.get_secret_value()
    put = put_secret(SecretSettings(name="hf-token", value=CANARY), target=project.target, progress=progress)
    assert str(put) == "HF_TOKEN was added; a new revision starts with it"
    assert project.target.app.secrets() == {"nbtoolkit-api-key": key, "hf-token": CANARY}
    env = app_properties(project)["template"]["containers"][0]["env"]
    [variable] = [one for one in env if one["name"] == "HF_TOKEN"]
    assert variable == {"name": "HF_TOKEN", "secretRef": "hf-token"}
    assert project.says() == "brave"
    shown = [repr(put), *progress.lines, str(project.target.status()), repr(SecretSettings(value=CANARY))]
    assert CANARY not in "\n".join(shown)
    assert CANARY not in repr(project.double.requests)
    files = [path for path in project.workspace.root.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_a_replaced_secret_restarts_running_servers(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    monkeypatch.setenv("HF_TOKEN", CANARY)
    put_secret(SecretSettings(), target=project.target)
    before = wait_until(lambda: project.target.replicas(refresh=True))
    monkeypatch.setenv("HF_TOKEN", f"{CANARY}-2")
    project.forget_requests()
    put = put_secret(SecretSettings(), target=project.target)
    assert put.replaced
    assert "ready in some minutes" in str(put)
    assert writes(project)[0] == f"PATCH {APP}"
    assert set(writes(project)[1:]) == {"POST restart"}  # two where the newer revision is still taking over
    assert project.target.app.secrets()["hf-token"] == f"{CANARY}-2"
    wait_until(lambda: (now := project.target.replicas(refresh=True)) and not set(now) & set(before))


def test_a_sleeping_app_is_not_woken_for_a_replaced_secret(make_project: MakeProject) -> None:
    project = make_project()
    put_secret(SecretSettings(value=CANARY), target=project.target)
    wait_until(lambda: is_rolled_out(project))
    project.double.apps.scale_to_zero(APP)
    project.forget_requests()
    put = put_secret(SecretSettings(value="another"), target=project.target)
    assert str(put) == "HF_TOKEN was replaced; nothing runs, so the next start reads it"
    assert writes(project) == [f"PATCH {APP}"]
    assert project.target.status().state == "asleep"
    assert project.double.apps.ingress_requests(APP) == 0


def test_a_secret_that_needs_an_unavailable_gpu_changes_nothing(make_project: MakeProject) -> None:
    project = make_project(gpu=True, min_replicas=1)
    wait_until(lambda: project.target.replicas(refresh=True))
    project.double.apps.quota.limits[A100_QUOTA] = 1
    project.forget_requests()
    with pytest.raises(QuotaShort):
        put_secret(SecretSettings(value=CANARY), target=project.target)
    assert writes(project) == []
    put_secret(SecretSettings(value=CANARY, allow_downtime=True), target=project.target)
    assert writes(project) == [f"PATCH {APP}", "POST stop", f"PATCH {APP}", "POST start"]


def test_a_secret_without_a_value_is_refused_with_its_sources(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    project.forget_requests()
    with pytest.raises(InvalidSettings, match="The secret HF_TOKEN has no value") as missing:
        put_secret(SecretSettings(), target=project.target)
    assert "type it into the form" in missing.value.next_step
    assert not project.double.requests
    with pytest.raises(InvalidSettings, match="letters, digits and _"):
        SecretSettings(name="my secret!")
