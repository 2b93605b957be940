"""An HTTP server that responds as the ingress of a container app, and an app whose revision failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.container_apps.revisions import ReplicaState, RevisionState
from nbtoolkit.azure.startup.activation import RolloutHeadroom
from tests.support.replica_states import NOW

FAILED_REVISION = RevisionState(
    "tones--r",
    True,
    NOW,
    0,
    "Failed",
    "ActivationFailed",
    "Deployment Progress Deadline Exceeded. 0/1",
)


def app_of(*replicas: ReplicaState) -> Any:
    """Return an app whose newest revision failed with these replicas."""
    profiles = {"gpu": "Consumption-GPU-NC24-A100"}
    return SimpleNamespace(
        provisioned=ResourceNames("sub", "group", "account", "share", "tones", None),
        environment=lambda _: SimpleNamespace(profiles=profiles),
        revisions=lambda: [FAILED_REVISION],
        replicas=lambda _: list(replicas),
    )


@pytest.fixture
def gpu_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota with a free GPU."""
    activation: Any = SimpleNamespace(
        state=SimpleNamespace(environment_id="env", workload_profile="gpu"),
        headroom=lambda: RolloutHeadroom(True, "1 of 2 in use"),
    )
    monkeypatch.setattr("nbtoolkit.azure.startup.capacity_failures.Activation", lambda *_: activation)


class IngressStub:
    """Send the queued responses, each ``(status, content type, text)``; the last one is repeated."""

    def __init__(self) -> None:
        self.responses: list[tuple[int, str, str]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                waiting = stub.responses
                status, kind, text = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def ingress() -> Iterator[IngressStub]:
    stub = IngressStub()
    yield stub
    stub.close()
