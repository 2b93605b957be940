"""A container app through ARM: its states are parsed, and changes run one at a time and lose nothing."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from nbtoolkit.azure.arm.long_running import change
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.azure.container_apps.revisions import ReplicaState, RevisionState
from nbtoolkit.errors import AzureFailed, Cancelled
from nbtoolkit.progress import Progress

NAMES = ResourceNames("sub", "rg", "account", "share", "tones")


class Model(dict[str, Any]):
    """A model of the SDK."""

    def as_dict(self) -> dict[str, Any]:
        return dict(self)


class Poller:
    """A long-running operation that ends after some polls, or with an error."""

    def __init__(self, polls: int = 0, error: Exception | None = None) -> None:
        self._polls, self._error = polls, error

    def done(self) -> bool:
        self._polls -= 1
        return self._polls < 0

    def wait(self, timeout: float | None = None) -> None:
        if self._error and (timeout is None or self._polls <= 0):
            raise self._error
        time.sleep(0.005)


class Operations:
    """The SDK's operations on apps; each method returns its queued answers, the last one repeatedly."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*given: Any) -> Any:
            self.calls.append((name, given))
            left = self.answers[name]
            found = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(found, Exception):
                raise found
            return found

        return answer


def app_with(**answers: list[Any]) -> tuple[ContainerApp, Operations]:
    operations = Operations(**answers)
    client = SimpleNamespace(
        container_apps=operations,
        container_apps_revisions=operations,
        container_apps_revision_replicas=operations,
    )
    cloud: Any = SimpleNamespace(containerapps=lambda _: client, poll_interval=0.01)
    return ContainerApp(cloud, NAMES), operations


def refused(status: int, code: str) -> HttpResponseError:
    """Return the SDK's exception for a response of ARM."""
    content = json.dumps({"error": {"code": code, "message": f"message of {code}"}})
    response = SimpleNamespace(
        status_code=status,
        reason="no",
        headers={"content-type": "application/json", "Retry-After": "0"},
        text=lambda *_: content,
        body=content.encode,
        content_type="application/json",
        request=SimpleNamespace(method="POST", url="https://management.azure.com/x"),
    )
    return HttpResponseError(response=response)  # type: ignore[arg-type]


def exchanges(shared: Path, part: str) -> Iterator[Any]:
    """Yield the recorded response bodies of URLs that end with ``part``."""
    with (shared / "azure/recordings/containerapp-cli-2025.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            one = json.loads(line)
            if one["url"].split("?")[0].endswith(part) and one["status"] == 200 and one["method"] == "GET":
                body = one["resp_body"]
                yield json.loads(body) if isinstance(body, str) else body


def test_recorded_replicas_and_revisions_are_parsed(shared: Path) -> None:
    replica = ReplicaState.from_body(next(exchanges(shared, "/replicas"))["value"][0])
    assert replica.name == "capp000002--tg5wpu8-56dd49bf94-mbzks"
    assert (replica.state, replica.ready, replica.restarts) == ("Running", True, 0)
    assert replica.created == datetime(2025, 5, 14, 13, 10, 17, tzinfo=UTC)
    assert replica.containers[0].details.startswith("Container started at")
    revision = RevisionState.from_body(next(exchanges(shared, "/revisions"))["value"][0])
    assert (revision.active, revision.replicas, revision.running_state) == (True, 1, "Running")
    assert revision.error is None


def test_every_recorded_app_and_environment_is_parsed(shared: Path) -> None:
    with (shared / "azure/recordings/containerapp-cli-2025.jsonl").open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    kinds = {"containerapps": AppState, "managedenvironments": EnvironmentState}
    read = 0
    for one in found:
        parts = one["url"].split("?")[0].lower().split("/")
        if one["method"] == "GET" and one["status"] == 200 and len(parts) > 2 and parts[-2] in kinds:
            body = json.loads(one["resp_body"]) if isinstance(one["resp_body"], str) else one["resp_body"]
            value = kinds[parts[-2]](body)
            assert value.name
            assert value.provisioning_state
            read += 1
    assert read > 20


def test_app_state_repr_hides_the_template() -> None:
    app = AppState(
        {
            "id": "i",
            "name": "tones",
            "properties": {
                "runningStatus": "Stopped",
                "template": {"containers": [{"env": [{"name": "A", "value": "canary"}, {"name": "B"}]}]},
            },
        }
    )
    assert "canary" not in repr(app)
    assert app.environment_variables == {"A": "canary", "B": None}
    assert app.stopped


def test_change_is_retried_while_another_one_runs() -> None:
    conflicts = [
        refused(409, "ContainerAppLockConflict"),
        refused(409, "ManagedEnvironmentOperationInProgress"),
    ]
    app, operations = app_with(begin_stop=[*conflicts, Poller(2)])
    notes: list[str] = []
    progress = Progress()
    progress.show = notes.append  # type: ignore[method-assign]
    app.stop(progress)
    assert len(operations.calls) == 3
    assert [note.strip() for note in notes] == [
        "Azure is busy with another change (ContainerAppLockConflict); trying again",
        "Azure is busy with another change (ManagedEnvironmentOperationInProgress); trying again",
    ]


def test_conflict_at_the_end_of_an_operation_is_retried() -> None:
    late = Poller(0, refused(409, "ContainerAppLockConflict"))
    app, operations = app_with(begin_start=[late, Poller()])
    app.start()
    assert [name for name, _ in operations.calls] == ["begin_start", "begin_start"]


def test_other_refusals_are_raised_with_their_cause() -> None:
    app, operations = app_with(begin_stop=[refused(409, "ContainerAppInvalidState")])
    with pytest.raises(AzureFailed, match="stop the app tones"):
        app.stop()
    assert len(operations.calls) == 1


def test_conflict_is_raised_after_the_retry_timeout() -> None:
    operations = Operations(begin_stop=[refused(409, "ContainerAppLockConflict")])
    with pytest.raises(AzureFailed, match="ContainerAppLockConflict"):
        change("/x", "stop x", operations.begin_stop, Progress(), retry_timeout=0.05, retry_interval=0.01)


def test_cancel_reports_that_azure_continues() -> None:
    app, _ = app_with(begin_stop=[Poller(1000)])
    progress = Progress()
    threading.Timer(0.1, progress.cancel).start()
    with pytest.raises(Cancelled, match="stop the app tones; Azure continues with it"):
        app.stop(progress)


def test_changes_of_one_app_run_one_at_a_time() -> None:
    running: list[int] = []
    most: list[int] = []

    class Slow(Poller):
        def __init__(self) -> None:
            running.append(1)
            most.append(len(running))
            super().__init__(2)

        def wait(self, timeout: float | None = None) -> None:
            if timeout is None:
                running.pop()

    app, operations = app_with()
    operations.begin_stop = lambda *_: Slow()  # type: ignore[method-assign]
    threads = [threading.Thread(target=app.stop) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_set_secrets_keeps_the_others_unchanged() -> None:
    listed = SimpleNamespace(
        value=[
            Model(name="nbtoolkit-api-key", value="k"),
            Model(name="vault", keyVaultUrl="https://v", identity="system"),
            Model(name="old", value="o"),
        ]
    )
    app, operations = app_with(list_secrets=[listed], begin_update=[Poller()])
    app.set_secrets({"hf-token": "h", "old": None})
    (_, (_, _, body)) = operations.calls[-1]
    assert body["properties"]["configuration"]["secrets"] == [
        {"name": "nbtoolkit-api-key", "value": "k"},
        {"name": "vault", "keyVaultUrl": "https://v", "identity": "system"},
        {"name": "hf-token", "value": "h"},
    ]


def test_new_revision_patches_only_the_suffix() -> None:
    app, operations = app_with(begin_update=[Poller()])
    name = app.new_revision("r-0123456789ab")
    (_, (_, _, body)) = operations.calls[-1]
    suffix = body["properties"]["template"].pop("revisionSuffix")
    assert body == {"properties": {"template": {}}}
    assert name == f"tones--{suffix}"
    assert suffix.startswith("r-0123456789ab-")
    assert app.new_revision("r-0123456789ab") != name


@pytest.mark.parametrize("reason", ["huggingface-hub-token", "A__B", "-x-", "ünüsual"])
def test_revision_suffix_is_valid_for_azure(reason: str) -> None:
    app, _ = app_with(begin_update=[Poller()])
    suffix = app.new_revision(reason).removeprefix("tones--")
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", suffix)
    assert len(suffix) <= 24


def test_error_of_on_poll_ends_the_wait() -> None:
    app, _ = app_with(begin_update=[Poller(1000)])

    def fail() -> None:
        raise AzureFailed("it will not start", next_step="look")

    with pytest.raises(AzureFailed, match="it will not start"):
        app.new_revision("r-1", on_poll=fail)
    stop, _ = app_with(begin_stop=[Poller()])
    stop.stop()  # the lock is free again
