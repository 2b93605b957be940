"""Requests that wake an app, and who responds to them."""

from __future__ import annotations

import httpx
import pytest

from nbtoolkit.azure.startup.pollers import WakeUpPoller, probe
from tests.azure.startup.conftest import IngressStub
from tests.support.wait import wait_until

INGRESS_TIMEOUT = (504, "text/plain", "stream timeout")


@pytest.mark.parametrize(
    ("response", "responder"),
    [
        (INGRESS_TIMEOUT, "starting"),
        ((503, "text/plain", "upstream connect error"), "none"),
        ((403, "text/html", "<html>Access denied by your company"), "none"),
        ((302, "text/html", "<html>Sign in to the proxy"), "none"),
        ((404, "text/html", "This Container App is stopped or does not exist"), "none"),
        ((403, "text/plain", "RBAC: access denied"), "refused"),
        ((200, "application/json", "{}"), "server"),
        ((404, "application/json", "{}"), "server"),
        ((503, "application/json", '{"error": {}}'), "server"),
    ],
)
def test_probe_distinguishes_ingress_and_server(
    ingress: IngressStub, response: tuple[int, str, str], responder: str
) -> None:
    ingress.responses = [response]
    with httpx.Client() as client:
        assert probe(client, ingress.url, managed=True)[0] == responder
        assert probe(client, "http://127.0.0.1:9")[0] == "none"


def test_wake_up_is_repeated_after_an_ingress_timeout(ingress: IngressStub) -> None:
    ingress.responses = [INGRESS_TIMEOUT, INGRESS_TIMEOUT, (200, "application/json", "{}")]
    poller = WakeUpPoller(ingress.url, interval=0.01).start()
    wait_until(lambda: poller.awake, 5)
    poller.stop()
    assert poller.ingress_timeouts == 2
