"""Repair of the mount after a key rotation, through the real SDKs against the double."""

from __future__ import annotations

import threading
from functools import partial

import httpx
import pytest
from azure.identity import EnvironmentCredential
from azure.mgmt.storage import StorageManagementClient

from nbtoolkit import (
    deploy,
    repair,
)
from nbtoolkit.errors import Blocked
from tests.support.azure_project import ACCOUNT, APP, GROUP, AzureProject, MakeProject
from tests.support.operated_app import rotate_key, writes
from tests.support.recording_progress import RecordingProgress
from tests.support.wait import wait_until


def send_request(project: AzureProject) -> None:
    """Send a request that the ingress holds until a replica is ready."""
    threading.Thread(target=partial(httpx.get, f"{project.names.endpoint}/health", timeout=60)).start()


def test_a_rotated_key_is_recognised_and_repaired_by_one_put(make_project: MakeProject) -> None:
    project, progress = make_project(), RecordingProgress()
    project.deploy("brave")
    project.double.apps.scale_to_zero(APP)
    rotate_key(project)
    send_request(project)
    wait_until(lambda: project.target._poller.snapshot(fresh=True).live)
    wait_until(lambda: "MountVolume.SetUp failed" in "\n".join(project.target.logs(tail=50)))
    storage = project.double.arm.get(f"{project.environment_id}/storages/share")["properties"]["azureFile"]
    before = dict(storage)

    project.forget_requests()
    done = repair(target=project.target, progress=progress)
    assert done.written
    assert "Azure cannot mount the share for tones--" in done.reason
    assert writes(project) == ["PUT share"]
    after = project.double.arm.get(f"{project.environment_id}/storages/share")["properties"]["azureFile"]
    assert {**after, "accountKey": ""} == {**before, "accountKey": ""}
    project.target.endpoint().wait(30)
    assert project.says() == "brave"
    shown = [str(done), repr(done), done._repr_html_(), *progress.lines]
    assert after["accountKey"] not in "\n".join(shown)

    project.forget_requests()
    again = repair(target=project.target)
    assert not again.written
    assert str(again).startswith("repaired  nothing: share has the current key of tonestore")
    assert writes(project) == []


def test_a_key_newer_than_the_written_one_is_found_while_the_app_sleeps(make_project: MakeProject) -> None:
    project = make_project()
    assert "is unknown" in repair(target=project.target).reason
    project.double.apps.scale_to_zero(APP)
    rotate_key(project)
    assert "the key was rotated at 20" in repair(target=project.target).reason
    rotate_key(project, 2)  # no mount uses the second one
    assert not repair(target=project.target).written
    assert project.target.status().state == "asleep"
    note = (project.workspace.state / "azure-mounts.json").read_text()
    keys = StorageManagementClient(EnvironmentCredential(), project.double.subscription).storage_accounts
    assert not [one for one in keys.list_keys(GROUP, ACCOUNT).as_dict()["keys"] if one["value"] in note]


def test_an_account_that_refuses_all_keys_is_named_and_nothing_is_written(make_project: MakeProject) -> None:
    project = make_project()
    client = StorageManagementClient(EnvironmentCredential(), project.double.subscription)
    client.storage_accounts.update(GROUP, ACCOUNT, {"properties": {"allowSharedKeyAccess": False}})
    client.close()
    project.forget_requests()
    with pytest.raises(Blocked, match="refuses its keys") as blocked:
        repair(target=project.target)
    assert "Allow storage account key access" in blocked.value.next_step
    assert writes(project) == []


def test_a_failed_mount_names_repair(make_project: MakeProject) -> None:
    project = make_project()
    rotate_key(project)
    project.adapter("brave")
    project.double.apps.scale_to_zero(APP)
    with pytest.raises(Exception, match="cannot mount the share") as failed:
        deploy(project.settings(project.workspace.root / "adapters" / "brave"), target=project.target)
    assert "repair()" in str(failed.value)
