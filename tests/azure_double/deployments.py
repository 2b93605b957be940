"""Microsoft.Resources/deployments in resource groups: validate, what-if, run, watch, cancel."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any

from . import deployment_bodies, template_parameters, what_if
from .arm import Arm
from .deployment_preflight import preflight
from .deployment_run import Deploy, Run, listed_operation
from .deployment_tree import DEPLOYMENT, Module, tree
from .expressions import evaluate_expressions
from .http import Refused, Response
from .resource_ids import ResourceId
from .resource_kind import Call, ResourceKind
from .templates import Evaluated, evaluate

PAGE = 2
"""Deployments on a page of the list."""
ACTIVE = ("Accepted", "Running")
WHAT_IF_SECONDS = 8


class Deployments(ResourceKind):
    """All deployments, nested ones too."""

    type = DEPLOYMENT
    needs_location = False

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._runs: dict[str, Run] = {}
        self._deploys: dict[str, Deploy] = {}
        self.errors_as_text = True
        """Whether errors of operations come as JSON inside a text, as ARM has long done."""
        self.policies: list[Callable[[Call], None]] = []
        """Called for every resource before a deployment starts; each may refuse it, as a policy does."""
        arm.register(DEPLOYMENT, self)
        group = "/subscriptions/[^/]+/resourcegroups/[^/]+"
        for place in (f"{group}/deployments", f"{group}/providers/Microsoft.Resources/deployments"):
            arm.route("GET", f"{place}/[^/]+/operations", self._operations)
            arm.route("GET", f"{place}/[^/]+/operations/[^/]+", self._operation)

    def put(self, call: Call) -> Response:
        self._refuse_active(call.id)
        template, values, evaluated = self._read(call)
        preflight(self._arm, evaluated, self.policies)
        root = tree(call.id, evaluated)
        body = deployment_bodies.deployment(call, template, values, evaluated, root)
        before = self._arm.get(call.id)
        self._arm.save(call.id, body)
        deploy = self._deploy()
        run = self._new(root, deploy, body)
        number = f"0858{secrets.randbelow(10**16):016d}"
        url = f"{call.id}/operationStatuses/{number}"
        self._arm.operations.serve(url, lambda _: Response.of(_status(run)))
        answer = Response.of(
            body,
            200 if before else 201,
            {
                "azure-asyncoperation": self._arm.operations.signed(url, call.version),
                "x-ms-deployment-engine-version": "1.628.3",
            },
        )
        threading.Thread(target=self._work, args=(run, template, evaluated), daemon=True).start()
        return answer

    def get(self, call: Call) -> Response:
        return Response.of(deployment_bodies.as_read(self._require(call.id)))

    def head(self, call: Call) -> Response:
        return Response(204 if self._arm.get(call.id) else 404)

    def delete(self, call: Call) -> Response:
        self._refuse_active(call.id)
        self._runs.pop(call.id.key, None)
        return Response(202 if self._arm.forget(call.id) else 204)

    def list(self, call: Call) -> Response:
        """Newest first, a page at a time."""
        found = [deployment_bodies.as_read(body) for body in self._arm.list_collection(call.id)]
        found.sort(key=lambda body: body["properties"]["timestamp"], reverse=True)
        start = int(call.query.get("$skiptoken") or 0)
        answer: dict[str, Any] = {"value": found[start : start + PAGE]}
        if len(found) > start + PAGE:
            path = call.request.path if call.request else str(call.id)
            query = f"%24skiptoken={start + PAGE}&api-version={call.version}"
            answer = {"nextLink": f"https://management.azure.com{path}?{query}", **answer}
        return Response.of(answer)

    def action(self, call: Call, name: str) -> Response:
        match name.lower():
            case "validate":
                return self._validate(call)
            case "whatif":
                return self._what_if(call)
            case "cancel":
                return self._cancel(call)
            case _:
                return super().action(call, name)

    def _validate(self, call: Call) -> Response:
        template, values, evaluated = self._read(call)
        preflight(self._arm, evaluated, self.policies)
        return Response.of(
            deployment_bodies.validated(call, template, values, evaluated, tree(call.id, evaluated))
        )

    def _what_if(self, call: Call) -> Response:
        template, values, _ = self._read(call)

        def work() -> dict[str, Any]:
            evaluated = evaluate(template, values, call.id, self._location(call), run=False)
            changes = what_if.changes(self._arm, call.id, evaluated)
            return {
                "status": "Succeeded",
                "properties": {"correlationId": secrets.token_hex(16), "changes": changes},
            }

        operation = self._arm.operations.begin(work, seconds=WHAT_IF_SECONDS)
        path = f"/subscriptions/{call.id.subscription}/operationresults"
        url = self._arm.operations.result_url(operation, path, call.version)
        return Response(202, {"location": url, "retry-after": self._arm.double.clock.retry_after(15)})

    def _cancel(self, call: Call) -> Response:
        body = self._require(call.id)
        state = body["properties"]["provisioningState"]
        if state not in ACTIVE:
            raise Refused(
                409,
                "DeploymentCannotBeCancelled",
                f"The deployment '{call.id.name}' cannot be cancelled because it is in terminal state "
                f"'{state}'.",
            )
        self._deploys[call.id.key].cancelled.set()
        return Response(204)

    def _read(self, call: Call) -> tuple[dict[str, Any], dict[str, Any], Evaluated]:
        properties = call.body.get("properties") or {}
        template = properties.get("template")
        if not isinstance(template, dict):
            raise Refused(
                400, "InvalidDeployment", "The 'template' property is required for this deployment."
            )
        if properties.get("mode") != "Incremental":
            raise Refused(400, "InvalidDeployment", "The double knows the mode 'Incremental' only.")
        values = template_parameters.parameter_values(template, properties.get("parameters") or {})
        return template, values, evaluate(template, values, call.id, self._location(call), run=True)

    def _location(self, call: Call) -> str:
        return str(self._arm.require(call.id.group_id)["location"])

    def _deploy(self) -> Deploy:
        arm = self._arm
        functions = {
            "reference": lambda id, version="", full="": _reference_value(
                arm.call_function("GET", id, version), full
            ),
            "list*": lambda name, id, version="": arm.call_function("POST", f"{id}/{name}", version).json(),
        }
        deploy: Deploy

        def nested(module: Module) -> Run:
            body = arm.save(module.id, deployment_bodies.nested(module))
            return self._new(module, deploy, body)

        deploy = Deploy(
            arm.put,
            lambda value: evaluate_expressions(value, functions),
            nested,
            arm.double.clock,
            errors_as_text=self.errors_as_text,
        )
        return deploy

    def _new(self, module: Module, deploy: Deploy, body: dict[str, Any]) -> Run:
        run = self._runs[module.id.key] = Run(module, deploy, body)
        self._deploys[module.id.key] = deploy
        return run

    def _work(self, run: Run, template: dict[str, Any], evaluated: Evaluated) -> None:
        deploy = self._deploys[run.module.id.key]
        run.run(lambda: deployment_bodies.finish(run, template, deploy.evaluate(evaluated.outputs)))

    def _refuse_active(self, id: ResourceId) -> None:
        old = self._arm.get(id)
        if old and old["properties"]["provisioningState"] in ACTIVE:
            raise Refused(
                409,
                "DeploymentActive",
                f"Unable to edit or replace deployment '{id.name}': previous deployment from "
                f"'{old['properties']['timestamp']}' is still active. Please see "
                "https://aka.ms/arm-deploy for usage details.",
            )

    def _require(self, id: ResourceId) -> dict[str, Any]:
        body = self._arm.get(id)
        if body is None:
            raise Refused(404, "DeploymentNotFound", f"Deployment '{id.name}' could not be found.")
        return body

    def _operations(self, call: Call) -> Response:
        return Response.of(
            {"value": [listed_operation(operation) for operation in self._run_of(call).operations]}
        )

    def _operation(self, call: Call) -> Response:
        wanted = call.request.decoded_path.rsplit("/", 1)[1] if call.request else ""
        for operation in self._run_of(call).operations:
            if operation["operationId"] == wanted:
                return Response.of(listed_operation(operation))
        raise Refused(
            404, "DeploymentOperationNotFound", f"Deployment operation '{wanted}' could not be found."
        )

    def _run_of(self, call: Call) -> Run:
        path = call.request.decoded_path if call.request else ""
        name = path.lower().split("/deployments/")[1].split("/")[0]
        id = ResourceId(call.id.subscription, call.id.group, "Microsoft.Resources", ("deployments",), (name,))
        self._require(id)
        return self._runs[id.key]


def _status(run: Run) -> dict[str, Any]:
    state = run.record["properties"]["provisioningState"]
    return {"status": state, **({"error": run.error} if run.error else {})}


def _reference_value(response: Response, full: str) -> Any:
    body = response.json()
    return body if full.lower() == "full" else body.get("properties", {})
