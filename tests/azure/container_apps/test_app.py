"""The app through ARM: what it says becomes values, and changes are made one by one and lose nothing."""

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

from nbtoolkit.azure import sdk
from nbtoolkit.azure.arm.long_running import change
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState, ReplicaState, RevisionState
from nbtoolkit.errors import AzureFailed, Cancelled
from nbtoolkit.progress import Progress

PLACE = ResourceNames("sub", "rg", "account", "share", "tones")


class Model(dict[str, Any]):
    """A model of the SDK: a mapping that gives its JSON."""

    def as_dict(self) -> dict[str, Any]:
        return dict(self)


class Poller:
    """A long-running operation that ends after some looks, or with an error."""

    def __init__(self, looks: int = 0, error: Exception | None = None) -> None:
        self._looks, self._error = looks, error

    def done(self) -> bool:
        self._looks -= 1
        return self._looks < 0

    def wait(self, timeout: float | None = None) -> None:
        if self._error and (timeout is None or self._looks <= 0):
            raise self._error
        time.sleep(0.005)


class Operations:
    """The operations on apps; answers of a method come in sequence, the last one again and again."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*given: Any) -> Any:
            self.asked.append((name, given))
            left = self.answers[name]
            found = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(found, Exception):
                raise found
            return found

        return answer


def app_with(**answers: list[Any]) -> tuple[App, Operations]:
    operations = Operations(**answers)
    client = SimpleNamespace(
        container_apps=operations,
        container_apps_revisions=operations,
        container_apps_revision_replicas=operations,
    )
    return App(SimpleNamespace(containerapps=lambda _: client), PLACE), operations  # type: ignore[arg-type]


def refused(status: int, code: str) -> HttpResponseError:
    """Return what the SDK raises for an answer of ARM."""
    content = json.dumps({"error": {"code": code, "message": f"said {code}"}})
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


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "POLL_INTERVAL", 0.01)


def exchanges(shared: Path, part: str) -> Iterator[Any]:
    """Yield the recorded bodies of answers whose address ends so."""
    with (shared / "azure/recordings/containerapp-cli-2025.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            one = json.loads(line)
            if one["url"].split("?")[0].endswith(part) and one["status"] == 200 and one["method"] == "GET":
                body = one["resp_body"]
                yield json.loads(body) if isinstance(body, str) else body


def test_recorded_replicas_and_revisions_become_values(shared: Path) -> None:
    replica = ReplicaState.of(next(exchanges(shared, "/replicas"))["value"][0])
    assert replica.name == "capp000002--tg5wpu8-56dd49bf94-mbzks"
    assert (replica.state, replica.ready, replica.restarts) == ("Running", True, 0)
    assert replica.created == datetime(2025, 5, 14, 13, 10, 17, tzinfo=UTC)
    assert replica.containers[0].details.startswith("Container started at")
    revision = RevisionState.of(next(exchanges(shared, "/revisions"))["value"][0])
    assert (revision.active, revision.replicas, revision.running_state) == (True, 1, "Running")
    assert revision.error is None


def test_every_recorded_app_and_environment_can_be_read(shared: Path) -> None:
    with (shared / "azure/recordings/containerapp-cli-2025.jsonl").open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    kinds = {"containerapps": AppState, "managedenvironments": EnvironmentState}
    read = 0
    for one in found:
        parts = one["url"].split("?")[0].lower().split("/")
        if one["method"] == "GET" and one["status"] == 200 and len(parts) > 2 and parts[-2] in kinds:
            body = json.loads(one["resp_body"]) if isinstance(one["resp_body"], str) else one["resp_body"]
            value = kinds[parts[-2]].of(body)
            assert value.name
            assert value.provisioning_state
            read += 1
    assert read > 20


def test_an_apps_repr_shows_no_template() -> None:
    app = AppState.of(
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


def test_a_change_is_asked_again_while_another_one_runs() -> None:
    conflicts = [
        refused(409, "ContainerAppLockConflict"),
        refused(409, "ManagedEnvironmentOperationInProgress"),
    ]
    app, asked = app_with(begin_stop=[*conflicts, Poller(2)])
    notes: list[str] = []
    progress = Progress()
    progress.show = notes.append  # type: ignore[method-assign]
    app.stop(progress)
    assert len(asked.asked) == 3
    assert [note.strip() for note in notes] == [
        "Azure is busy with another change (ContainerAppLockConflict); trying again",
        "Azure is busy with another change (ManagedEnvironmentOperationInProgress); trying again",
    ]


def test_a_conflict_at_the_end_of_an_operation_is_tried_again_too() -> None:
    late = Poller(0, refused(409, "ContainerAppLockConflict"))
    app, asked = app_with(begin_start=[late, Poller()])
    app.start()
    assert [name for name, _ in asked.asked] == ["begin_start", "begin_start"]


def test_another_refusal_is_an_error_with_its_cause() -> None:
    app, asked = app_with(begin_stop=[refused(409, "ContainerAppInvalidState")])
    with pytest.raises(AzureFailed, match="stop the app tones"):
        app.stop()
    assert len(asked.asked) == 1


def test_a_conflict_that_never_ends_is_an_error() -> None:
    operations = Operations(begin_stop=[refused(409, "ContainerAppLockConflict")])
    with pytest.raises(AzureFailed, match="ContainerAppLockConflict"):
        change("/x", "stop x", operations.begin_stop, Progress(), retry_timeout=0.05, retry_interval=0.01)


def test_a_cancel_says_that_azure_goes_on() -> None:
    app, _ = app_with(begin_stop=[Poller(1000)])
    progress = Progress()
    threading.Timer(0.1, progress.cancel).start()
    with pytest.raises(Cancelled, match="stop the app tones; Azure continues with it"):
        app.stop(progress)


def test_changes_of_one_app_follow_each_other() -> None:
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


def test_setting_a_secret_keeps_the_others_as_they_are() -> None:
    listed = SimpleNamespace(
        value=[
            Model(name="nbtoolkit-api-key", value="k"),
            Model(name="vault", keyVaultUrl="https://v", identity="system"),
            Model(name="old", value="o"),
        ]
    )
    app, asked = app_with(list_secrets=[listed], begin_update=[Poller()])
    app.set_secrets({"hf-token": "h", "old": None})
    (_, (_, _, body)) = asked.asked[-1]
    assert body["properties"]["configuration"]["secrets"] == [
        {"name": "nbtoolkit-api-key", "value": "k"},
        {"name": "vault", "keyVaultUrl": "https://v", "identity": "system"},
        {"name": "hf-token", "value": "h"},
    ]


def test_a_new_revision_names_nothing_but_its_suffix() -> None:
    app, asked = app_with(begin_update=[Poller()])
    name = app.new_revision("r-0123456789ab")
    (_, (_, _, body)) = asked.asked[-1]
    suffix = body["properties"]["template"].pop("revisionSuffix")
    assert body == {"properties": {"template": {}}}
    assert name == f"tones--{suffix}"
    assert suffix.startswith("r-0123456789ab-")
    assert app.new_revision("r-0123456789ab") != name


@pytest.mark.parametrize("reason", ["huggingface-hub-token", "A__B", "-x-", "ünüsual"])
def test_a_revision_has_a_name_that_azure_takes(reason: str) -> None:
    app, _ = app_with(begin_update=[Poller()])
    suffix = app.new_revision(reason).removeprefix("tones--")
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", suffix)
    assert len(suffix) <= 24


def test_what_is_looked_at_meanwhile_may_end_the_waiting() -> None:
    app, _ = app_with(begin_update=[Poller(1000)])

    def fail() -> None:
        raise AzureFailed("it will not start", next_step="look")

    with pytest.raises(AzureFailed, match="it will not start"):
        app.new_revision("r-1", meanwhile=fail)
    stop, _ = app_with(begin_stop=[Poller()])
    stop.stop()  # the lock is free again
