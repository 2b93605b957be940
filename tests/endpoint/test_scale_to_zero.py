"""An endpoint whose app sleeps, is stopped or shut: what waiting says, and how soon it lets go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtoolkit import deploy
from nbtoolkit.endpoint.readiness import wait_ready
from nbtoolkit.errors import Cancelled, NotReady, RequestRefused
from nbtoolkit.progress import Progress
from nbtoolkit.widgets import ChatForm
from tests.azure_double import AzureDouble
from tests.support.azure_workspace import APP, AzurePlace
from tests.support.recording_progress import Told
from tests.support.stub_deploy import server_code, use_stub


@pytest.fixture(scope="module", autouse=True)
def _stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = use_stub(server_code(tmp_path_factory.mktemp("code")))
    yield
    patch.undo()


@pytest.fixture
def place(azure_double: AzureDouble, tmp_path: Path) -> AzurePlace:
    return AzurePlace(azure_double, tmp_path / "project")


def deploy_and_sleep(place: AzurePlace) -> None:
    """Deploy, and scale the app to zero."""
    deploy(place.settings(place.adapter("brave")), target=place.target)
    place.double.apps.scale_to_zero(APP)


def wait(place: AzurePlace) -> None:
    """Wait like ``Endpoint.wait``, but only briefly for a reason that waiting does not change."""
    endpoint = place.target.endpoint()
    wait_ready(endpoint.not_ready_reason, endpoint.url, 60, Progress(), retry_timeout=0.5)


def test_scale_to_zero_app_is_woken_and_a_504_is_only_a_reason(place: AzurePlace) -> None:
    deploy_and_sleep(place)
    place.double.apps.limits.hold_seconds = 5  # 50 ms: far less than a start takes
    endpoint, told = place.target.endpoint(), Told()
    with pytest.raises(RequestRefused, match="504: stream timeout") as refused:
        endpoint.chat("hi", "tone", stream=False)
    assert "endpoint.wait()" in refused.value.next_step
    assert endpoint.wait(30, told).chat("hi", "tone", stream=False, max_tokens=1).strip() == "brave"
    assert told.lines[0] == f"Waiting for {endpoint.url}"
    assert any("held the request to its limit (504 stream timeout)" in line for line in told.lines)
    assert len(told.lines) == len(set(told.lines))


def test_cancel_while_the_ingress_holds_the_request(place: AzurePlace) -> None:
    place.double.apps.scale_to_zero(APP)
    place.double.apps.hold(APP)
    place.double.apps.limits.hold_seconds = 3000
    told = Told()
    threading.Timer(4, told.cancel).start()
    begun = time.monotonic()
    with pytest.raises(Cancelled):
        place.target.endpoint().wait(60, told)
    assert time.monotonic() - begun < 6
    assert "takes minutes to start one, and it is billed from then on" in told.lines[-1]
    with pytest.raises(NotReady, match="was not ready within 1 s: the ingress holds"):
        place.target.endpoint().wait(1)
    place.double.apps.limits.hold_seconds = 1


def test_wait_for_a_stopped_app_fails_early(place: AzurePlace) -> None:
    place.target.stop()
    with pytest.raises(NotReady, match="the app is stopped") as stopped:
        wait(place)
    assert "deploy()" in stopped.value.next_step


def test_wait_reports_an_ip_rule_that_denies_this_machine(place: AzurePlace) -> None:
    rule = {"name": "office", "action": "Allow", "ipAddressRange": "198.51.100.0/24"}
    ingress = place.double.apps.app(APP).ingress
    place.target.app.update(
        {"configuration": {"ingress": {**(ingress or {}), "ipSecurityRestrictions": [rule]}}}
    )
    with pytest.raises(NotReady, match="deny this machine") as shut:
        wait(place)
    assert "allowed_ip_ranges" in shut.value.next_step


def test_chat_form_opens_at_once_and_shows_what_it_waits_for(place: AzurePlace) -> None:
    deploy_and_sleep(place)
    place.double.apps.hold(APP)
    begun = time.monotonic()
    view = ChatForm(place.target.endpoint()).view
    assert time.monotonic() - begun < 5
    assert "Waiting for https://tones." in view._message.value
    assert view.send_button.disabled
    place.double.apps.hold(APP, stuck=False)
    deadline = time.monotonic() + 30
    while not view.model.options:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert view.model.value == "tone"
    assert view._message.value == ""
