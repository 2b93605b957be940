"""The run of a deployment or module: starts each step once its dependencies succeeded."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import deployment_errors
from .clock import Clock
from .deployment_tree import DEPLOYMENT, Module, symbol
from .http import Refused
from .templates import PlannedResource

if TYPE_CHECKING:
    from .resource_ids import ResourceId
    from .resource_kind import Call

Put = Callable[["ResourceId", dict[str, Any], str], "Call"]
PAUSE = 0.005


class Run:
    """The state of a deployment: its operations as they are listed, and how it ended."""

    def __init__(self, module: Module, deploy: Deploy, record: dict[str, Any]) -> None:
        self.module = module
        self.record = record
        """The deployment's body; its state and error are written here."""
        self.operations: list[dict[str, Any]] = []
        self.error: dict[str, Any] | None = None
        self._deploy = deploy
        self._failures: list[tuple[str, dict[str, Any]]] = []
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def run(self, finish: Callable[[], None] | None = None) -> None:
        """Work through all steps, then `finish`; the state ends as Succeeded, Failed or Canceled."""
        self._set("Running")
        waiting, running, done = list(self.module.steps), dict[int, threading.Thread](), set[int]()
        while (waiting and not self._deploy.cancelled.is_set()) or running:
            for key in [key for key, thread in running.items() if not thread.is_alive()]:
                running.pop(key)
            if not self._deploy.cancelled.is_set():
                for step in [step for step in waiting if self._ready(step, done)]:
                    waiting.remove(step)
                    thread = threading.Thread(target=self._step, args=(step, done), daemon=True)
                    running[id(step)] = thread
                    thread.start()
            if not running:
                break  # the remaining steps depend on failed ones
            time.sleep(PAUSE)
        if self._deploy.cancelled.is_set():
            self._set("Canceled")
            return
        if self._failures:
            as_text, target = self._deploy.errors_as_text, str(self.module.id)
            self.error = deployment_errors.deployment(self._failures, as_text=as_text, target=target)
        elif finish:
            self._finish(finish)
        if self.error:
            self.record["properties"]["error"] = self.error
        self._set("Failed" if self.error else "Succeeded")

    def _finish(self, finish: Callable[[], None]) -> None:
        operation = self._list("EvaluateDeploymentOutput", None)
        try:
            finish()
            self._end(operation, "Succeeded", "OK")
        except Refused as refused:
            self.error = deployment_errors.outputs(refused.error)
            self._fail(operation, "BadRequest", deployment_errors.refused(self.error))

    def _ready(self, step: Module | PlannedResource, done: set[int]) -> bool:
        return all(id(other) in done for other in self.module.needed_by(step))

    def _step(self, step: Module | PlannedResource, done: set[int]) -> None:
        operation = self._begin(step)
        try:
            status = self._module(step) if isinstance(step, Module) else self._resource(step)
        except Refused as refused:
            message = deployment_errors.refused(refused.error)
            self._fail(operation, deployment_errors.status_name(refused.status), message)
        except _OperationFailed as failed:
            self._fail(operation, "Conflict", deployment_errors.failed(failed.error))
        except Exception as crash:
            message = deployment_errors.refused({"code": "InternalServerError", "message": repr(crash)})
            self._fail(operation, "InternalServerError", message)
            raise
        else:
            cancelled = self._deploy.cancelled.is_set()
            self._end(
                operation, "Canceled" if cancelled else "Succeeded", deployment_errors.status_name(status)
            )
            done.add(id(step))

    def _resource(self, step: PlannedResource) -> int:
        body = self._deploy.evaluate(step.body)
        call = self._deploy.put(step.id, body, step.version)
        if call.operation:
            call.operation.wait()
            if call.operation.error:
                raise _OperationFailed(call.operation.error)
        return call.response.status if call.response else 200

    def _module(self, step: Module) -> int:
        run = self._deploy.nested(step)
        run.run()
        if run.error:
            raise _OperationFailed(run.error)
        return 200

    def _begin(self, step: Module | PlannedResource) -> dict[str, Any]:
        target = {
            "id": str(step.id),
            "resourceType": DEPLOYMENT if isinstance(step, Module) else step.id.type,
            "resourceName": "/".join(step.id.names),
            "apiVersion": step.version,
            "symbolicName": symbol(step),
        }
        return self._list("Create", target)

    def _list(self, what: str, target: dict[str, Any] | None) -> dict[str, Any]:
        id = uuid.uuid4().hex[:16].upper()
        properties: dict[str, Any] = {
            "provisioningOperation": what,
            "provisioningState": "Running",
            "timestamp": Clock.stamp(),
            "duration": "PT0S",
            "trackingId": str(uuid.uuid4()),
            "_began": time.monotonic(),
        }
        if target:
            properties["targetResource"] = target
        operation = {"id": f"{self.module.id}/operations/{id}", "operationId": id, "properties": properties}
        with self._lock:
            self.operations.append(operation)
        return operation

    def _fail(self, operation: dict[str, Any], status: str, message: dict[str, Any]) -> None:
        operation["properties"]["statusMessage"] = message
        self._end(operation, "Failed", status)
        with self._lock:
            self._failures.append((status, message))

    def _end(self, operation: dict[str, Any], state: str, status: str) -> None:
        properties = operation["properties"]
        seconds = self._deploy.clock.azure(time.monotonic() - properties["_began"])
        properties |= {"provisioningState": state, "timestamp": Clock.stamp(), "duration": duration(seconds)}
        properties |= {"serviceRequestId": str(uuid.uuid4()), "statusCode": status}

    def _set(self, state: str) -> None:
        properties = self.record["properties"]
        seconds = self._deploy.clock.azure(time.monotonic() - self._began)
        properties |= {"provisioningState": state, "timestamp": Clock.stamp(), "duration": duration(seconds)}


class Deploy:
    """State shared by all runs of one deployment."""

    def __init__(
        self,
        put: Put,
        evaluate: Callable[[Any], Any],
        nested: Callable[[Module], Run],
        clock: Clock,
        *,
        errors_as_text: bool,
    ) -> None:
        self.put = put
        self.evaluate = evaluate
        self.nested = nested
        self.clock = clock
        self.errors_as_text = errors_as_text
        self.cancelled = threading.Event()


class _OperationFailed(Exception):
    """Accepted work failed."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message", ""))
        self.error = error


def duration(seconds: float) -> str:
    """ISO 8601, as ARM writes it."""
    minutes, rest = divmod(seconds, 60)
    return f"PT{int(minutes)}M{rest:.7f}S" if minutes else f"PT{rest:.7f}S"


def listed_operation(operation: dict[str, Any]) -> dict[str, Any]:
    """Return an operation in the format of the list."""
    properties = {key: value for key, value in operation["properties"].items() if not key.startswith("_")}
    return {**operation, "properties": properties}
