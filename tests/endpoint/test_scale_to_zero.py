"""Waiting for an endpoint whose app is at zero, stopped or restricted: reasons, timeout and cancel."""

from __future__ import annotations

import threading
import time

import pytest

from nbtoolkit.endpoint.readiness import wait_ready
from nbtoolkit.errors import Cancelled, NotReady, RequestRefused
from nbtoolkit.progress import Progress
from nbtoolkit.widgets import ChatForm
from tests.support.azure_project import APP, AzureProject, MakeProject
from tests.support.recording_progress import RecordingProgress
from tests.support.wait import wait_until


@pytest.fixture
def project(make_project: MakeProject) -> AzureProject:
    return make_project()


def deploy_and_sleep(project: AzureProject) -> None:
    """Deploy, and scale the app to zero."""
    project.deploy("brave")
    project.double.apps.scale_to_zero(APP)


def wait(project: AzureProject) -> None:
    """Wait like ``Endpoint.wait``, but with a short timeout for a permanent reason."""
    endpoint = project.target.endpoint()
    wait_ready(endpoint.not_ready_reason, endpoint.url, 60, Progress(), retry_timeout=0.5)


def test_app_at_zero_is_woken_and_a_504_is_a_wait_reason(project: AzureProject) -> None:
    deploy_and_sleep(project)
    project.double.apps.limits.hold = 0
    project.double.apps.limits.hold_seconds = 5  # 50 ms: far less than a start takes
    endpoint, progress = project.target.endpoint(), RecordingProgress()
    with pytest.raises(RequestRefused, match="504: stream timeout") as refused:
        endpoint.chat("hi", "tone", stream=False)
    assert "endpoint.wait()" in refused.value.next_step
    assert endpoint.wait(30, progress).chat("hi", "tone", stream=False, max_tokens=1).strip() == "brave"
    assert progress.lines[0] == f"Waiting for {endpoint.url}"
    assert any("held the request to its limit (504 stream timeout)" in line for line in progress.lines)
    assert len(progress.lines) == len(set(progress.lines))


def test_cancel_while_the_ingress_holds_the_request(project: AzureProject) -> None:
    project.double.apps.scale_to_zero(APP)
    project.double.apps.hold(APP)
    project.double.apps.limits.hold_seconds = 3000
    progress = RecordingProgress()
    threading.Timer(4, progress.cancel).start()
    begun = time.monotonic()
    with pytest.raises(Cancelled):
        project.target.endpoint().wait(60, progress)
    assert time.monotonic() - begun < 6
    assert "takes minutes to start one, and it is billed from then on" in progress.lines[-1]
    with pytest.raises(NotReady, match="was not ready within 1 s: the ingress holds"):
        project.target.endpoint().wait(1)
    project.double.apps.limits.hold = 0
    project.double.apps.limits.hold_seconds = 1


def test_wait_for_a_stopped_app_fails_early(project: AzureProject) -> None:
    project.target.stop()
    with pytest.raises(NotReady, match="the app is stopped") as stopped:
        wait(project)
    assert "deploy()" in stopped.value.next_step


def test_wait_reports_an_ip_rule_that_denies_this_machine(project: AzureProject) -> None:
    rule = {"name": "office", "action": "Allow", "ipAddressRange": "198.51.100.0/24"}
    ingress = project.double.apps.app(APP).ingress
    project.target.app.update(
        {"configuration": {"ingress": {**(ingress or {}), "ipSecurityRestrictions": [rule]}}}
    )
    with pytest.raises(NotReady, match="deny this machine") as shut:
        wait(project)
    assert "allowed_ip_ranges" in shut.value.next_step


def test_chat_form_opens_at_once_and_shows_what_it_waits_for(project: AzureProject) -> None:
    deploy_and_sleep(project)
    project.double.apps.hold(APP)
    begun = time.monotonic()
    view = ChatForm(project.target.endpoint()).view
    assert time.monotonic() - begun < 5
    assert "Waiting for https://tones." in view._message.value
    assert view.send_button.disabled
    project.double.apps.hold(APP, stuck=False)
    wait_until(lambda: view.model.options, 30)
    assert view.model.value == "tone"
    assert view._message.value == ""
