"""Microsoft.App/containerApps: PUT replaces, PATCH merges, stop and start; one change at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import app_bodies, app_rules
from .app_bodies import TYPE
from .app_platform import Platform
from .app_versions import headers, merged, refusal, shaped
from .environment_parts import EnvironmentUsages, ProfileStates, Storages, profile_types
from .environments import TIMEOUT, Environments, auth_token
from .hosted_app import HostedApp
from .http import Response
from .ingress import Ingress
from .log_streams import Streams
from .operations import Operation
from .resource_ids import ResourceId
from .resource_kind import Call, ResourceKind
from .revision_kinds import Replicas, Revisions

if TYPE_CHECKING:
    from .double import AzureDouble

OPERATION_FAILED = (
    "Failed to provision revision for container app '{name}'. Error details: Operation expired."
)


class ContainerApps(ResourceKind):
    """Container apps as resources; `hosted_app.py` runs them."""

    type = TYPE

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._lock = threading.Lock()

    def put(self, call: Call) -> Response:
        environment = self._environment(call)
        document = app_bodies.desired_body(call, environment)
        app = self._change(call, document, environment)
        call.operation = self._begin(app, lambda: self._provision(app), 20)
        return Response.of(
            shaped(app_bodies.accepted_body(app), call.version),
            201,
            headers({"azure-asyncoperation": self._status(call, app, call.operation), **TIMEOUT}),
        )

    def patch(self, call: Call) -> Response:
        app = self.platform.require_app(call.id)
        given = {
            name: value for name, value in call.body.items() if name in ("tags", "identity", "properties")
        }
        call.body = merged(app.body, given)
        environment = self._environment(call)
        app = self._change(call, app_bodies.desired_body(call, environment), environment)
        call.operation = self._begin(app, lambda: self._provision(app), 10)
        return self._accepted(call, app, call.operation)

    def delete(self, call: Call) -> Response:
        if call.arm.get(call.id) is None:
            return Response(204, headers())
        app = self.platform.require_app(call.id)
        self._lock_app(app)
        app.body["properties"]["provisioningState"] = "Deleting"

        def work() -> None:
            app.deleted = True
            call.arm.forget(call.id)
            self.platform.drop(app)

        call.operation = self._begin(app, work, 10)
        if call.request is None:  # its group is being deleted
            call.operation.wait()
        place = call.arm.operations.result_url(
            call.operation, self._operation_path(call, app, "Results"), call.version, empty=True
        )
        return Response(202, headers({"location": place}))

    def get(self, call: Call) -> Response:
        return Response.of(
            shaped(app_bodies.get_body(self.platform.require_app(call.id)), call.version), headers=headers()
        )

    def list(self, call: Call) -> Response:
        bodies = call.arm.list_collection(call.id)
        apps = [self.platform.require_app(ResourceId.parse(body["id"]) or call.id) for body in bodies]
        return Response.of({"value": [shaped(app_bodies.get_body(app), call.version) for app in apps]})

    def post_listsecrets(self, call: Call) -> Response:
        app = self.platform.require_app(call.id)
        listed = app.configuration["secrets"] or []
        return Response.of({"value": listed}, headers=headers())

    def post_getauthtoken(self, call: Call) -> Response:
        body = app_bodies.get_body(self.platform.require_app(call.id))
        return Response.of(auth_token(call, body, f"{TYPE}/accesstoken"), headers=headers())

    def post_stop(self, call: Call) -> Response:
        return self._switch(call, stopped=True)

    def post_start(self, call: Call) -> Response:
        return self._switch(call, stopped=False)

    def _switch(self, call: Call, *, stopped: bool) -> Response:
        app = self.platform.require_app(call.id)
        self._lock_app(app)

        def work() -> dict[str, Any]:
            with self.platform.lock:
                app.stopped = stopped
                app.scale_to_zero()
            if stopped:
                self.platform.wait_for(lambda: not app.replicas(), 60, f"the replicas of {app.name} to end")
            app.body["properties"]["provisioningState"] = "Succeeded"
            return shaped(app_bodies.get_body(app), call.version)

        app.body["properties"]["provisioningState"] = "InProgress"
        call.operation = self._begin(app, work, 10)
        return self._accepted(call, app, call.operation)

    def _environment(self, call: Call) -> dict[str, Any]:
        properties = call.body.get("properties") or {}
        id = properties.get("environmentId") or properties.get("managedEnvironmentId")
        environment = call.arm.get(id) if id else None
        if environment is None:
            raise refusal(
                400,
                "ManagedEnvironmentNotFound",
                f"The environment '{id}' of container app '{call.id.name}' was not found.",
            )
        if environment["properties"]["provisioningState"] not in ("Succeeded", "Updating"):
            raise refusal(
                400,
                "ManagedEnvironmentNotProvisioned",
                f"The environment '{environment['id']}' has not been provisioned successfully.",
            )
        return environment

    def _change(self, call: Call, document: dict[str, Any], environment: dict[str, Any]) -> HostedApp:
        """Validate a new body and store it; the caller starts the operation."""
        old = self.platform.require_app(call.id) if call.arm.get(call.id) else None
        if old:
            old.refuse_while_busy()
        app_rules.check(
            call.id.name,
            document,
            environment,
            lambda name: call.arm.get(f"{environment['id']}/storages/{name}") is not None,
            old.secrets if old else {},
            [(one.name, one.template) for one in (old.revisions if old else []) if not one.active],
        )
        if old:
            old.needs_revision(document["properties"]["template"])
        app = old or self.platform.get_or_create_app(call.id, environment)
        self._lock_app(app)
        with self.platform.lock:
            app.asked = call.body
            app_bodies.store_body(app, document, call.arm.double.clock.stamp().rstrip("Z"))
        call.arm.save(
            call.id, {"id": app.arm_id, "name": app.name, "type": TYPE, "location": document["location"]}
        )
        return app

    def _provision(self, app: HostedApp) -> dict[str, Any] | None:
        """Create the revision of a new body; the first one must become ready."""
        template = app.body["properties"]["template"]
        with self.platform.lock:
            revision = app.revise(template) if app.needs_revision(template) else app.retry_failed()
        if revision and app.serving is None and not app.stopped:
            limit = self.platform.deadline + 5
            end = time.monotonic() + limit
            while not revision.provisioned and not revision.error and time.monotonic() < end:
                if self.platform.double.clock.stopped:
                    return None
                time.sleep(0.02)
            if not revision.provisioned:
                app.body["properties"]["provisioningState"] = "Failed"
                raise refusal(400, "ContainerAppOperationError", OPERATION_FAILED.format(name=app.name))
        app.body["properties"]["provisioningState"] = "Succeeded"
        return app_bodies.get_body(app)

    def _lock_app(self, app: HostedApp) -> None:
        with self._lock:
            app.refuse_while_busy()
            app.busy = True

    def _begin(self, app: HostedApp, work: Callable[[], dict[str, Any] | None], seconds: float) -> Operation:
        def whole() -> dict[str, Any] | None:
            try:
                return work()
            finally:
                app.busy = False

        return self.platform.double.arm.operations.begin(whole, seconds=seconds)

    def _operation_path(self, call: Call, app: HostedApp, kind: str) -> str:
        start = f"/subscriptions/{call.id.subscription}/providers/Microsoft.App/locations/{app.region}"
        return f"{start}/containerappOperation{kind}"

    def _status(self, call: Call, app: HostedApp, operation: Operation) -> str:
        return call.arm.operations.status_url(
            operation,
            self._operation_path(call, app, "Statuses"),
            call.version,
            extra="&azureAsyncOperation=true",
        )

    def _accepted(self, call: Call, app: HostedApp, operation: Operation) -> Response:
        place = call.arm.operations.result_url(
            operation, self._operation_path(call, app, "Results"), call.version
        )
        status = self._status(call, app, operation)
        wait = call.double.clock.retry_after(15)
        return Response(
            202, headers({"location": place, "azure-asyncoperation": status, "retry-after": wait})
        )


def install(double: AzureDouble) -> Platform:
    """Put Container Apps into the double; returns `double.apps`."""
    platform = Platform(double)
    environments = Environments(platform)
    apps = ContainerApps(platform)
    for kind in (
        environments,
        Storages(),
        ProfileStates(environments),
        EnvironmentUsages(environments),
        apps,
        Revisions(platform),
        Replicas(platform),
    ):
        double.arm.register(kind.type, kind)
    places = "/subscriptions/[^/]+/providers/Microsoft.App/locations/[^/]+"
    double.arm.route("GET", f"{places}/availableManagedEnvironmentsWorkloadProfileTypes", profile_types)
    double.arm.route("GET", f"{places}/usages", platform.quota.listing)
    double.route(r".+\.azurecontainerapps\.io", Ingress(platform).handle)
    double.route(r".+\.azurecontainerapps\.dev", Streams(platform).handle)
    return platform
