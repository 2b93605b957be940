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
from tests.support.azure_workspace import ACCOUNT, APP, GROUP, AzurePlace
from tests.support.operated_app import (
    MakePlace,
    deploy_adapter,
    rotate_key,
    writes,
)
from tests.support.recording_progress import Told, until


def send_request(place: AzurePlace) -> None:
    """Send a request that the ingress holds until a replica is ready."""
    threading.Thread(target=partial(httpx.get, f"{place.place.endpoint}/health", timeout=60)).start()


def test_a_rotated_key_is_recognised_and_repaired_by_one_put(make_place: MakePlace) -> None:
    place, progress = make_place(), Told()
    deploy_adapter(place, "brave")
    place.double.apps.scale_to_zero(APP)
    rotate_key(place)
    send_request(place)
    until(lambda: place.target._poller.snapshot(fresh=True).live)
    until(lambda: "MountVolume.SetUp failed" in "\n".join(place.target.logs(tail=50)))
    storage = place.double.arm.get(f"{place.environment_id}/storages/share")["properties"]["azureFile"]
    before = dict(storage)

    place.forget_requests()
    done = repair(target=place.target, progress=progress)
    assert done.written
    assert "Azure cannot mount the share for tones--" in done.reason
    assert writes(place) == ["PUT share"]
    after = place.double.arm.get(f"{place.environment_id}/storages/share")["properties"]["azureFile"]
    assert {**after, "accountKey": ""} == {**before, "accountKey": ""}
    place.target.endpoint().wait(30)
    assert place.says() == "brave"
    shown = [str(done), repr(done), done._repr_html_(), *progress.lines]
    assert after["accountKey"] not in "\n".join(shown)

    place.forget_requests()
    again = repair(target=place.target)
    assert not again.written
    assert str(again).startswith("repaired  nothing: share has the current key of tonestore")
    assert writes(place) == []


def test_a_key_newer_than_the_written_one_is_found_while_the_app_sleeps(make_place: MakePlace) -> None:
    place = make_place()
    assert "is unknown" in repair(target=place.target).reason
    place.double.apps.scale_to_zero(APP)
    rotate_key(place)
    assert "the key was rotated at 20" in repair(target=place.target).reason
    rotate_key(place, 2)  # nobody mounts with the second one
    assert not repair(target=place.target).written
    assert place.target.status().state == "asleep"
    note = (place.workspace.state / "azure-mounts.json").read_text()
    keys = StorageManagementClient(EnvironmentCredential(), place.double.subscription).storage_accounts
    assert not [one for one in keys.list_keys(GROUP, ACCOUNT).as_dict()["keys"] if one["value"] in note]


def test_an_account_that_refuses_all_keys_is_named_and_nothing_is_written(make_place: MakePlace) -> None:
    place = make_place()
    client = StorageManagementClient(EnvironmentCredential(), place.double.subscription)
    client.storage_accounts.update(GROUP, ACCOUNT, {"properties": {"allowSharedKeyAccess": False}})
    client.close()
    place.forget_requests()
    with pytest.raises(Blocked, match="refuses its keys") as blocked:
        repair(target=place.target)
    assert "Allow storage account key access" in blocked.value.next_step
    assert writes(place) == []


def test_a_failed_mount_names_repair(make_place: MakePlace) -> None:
    place = make_place()
    rotate_key(place)
    place.adapter("brave")
    place.double.apps.scale_to_zero(APP)
    with pytest.raises(Exception, match="cannot mount the share") as failed:
        deploy(place.settings(place.workspace.root / "adapters" / "brave"), target=place.target)
    assert "repair()" in str(failed.value)
