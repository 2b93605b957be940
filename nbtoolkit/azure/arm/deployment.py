"""One ARM deployment, found by its name: validate, predict, start, watch and cancel it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nbtoolkit.azure.arm.deployment_operations import (
    DeploymentOperation,
    DeploymentState,
    list_operations,
)
from nbtoolkit.azure.arm.long_running import start_request, wait_for_poller
from nbtoolkit.azure.arm.what_if import WhatIf
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.arm_error import Cause, explain
from nbtoolkit.azure.errors.translate import error_body, or_none, translate_errors
from nbtoolkit.azure.sdk import retry_after
from nbtoolkit.errors import AzureFailed, Cancelled, ProvisionFailed
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import CallTimeout, run_cancellable

_PACKAGED = Path(__file__).with_name("inference.json")
_CHECKOUT = Path(__file__).parents[3] / "infra" / "provision" / "inference.json"

_MAX_FAILURES = 5
"""Consecutive polls that may fail before :meth:`ArmDeployment.watch` raises; Azure continues meanwhile."""
_READ_TIMEOUT = 300
"""Seconds in which Azure must respond to a request with a whole template."""
_CANCEL_TIMEOUT = 1.5
"""Seconds that a cancel waits for Azure's response; the request is sent in any case."""


def load_template() -> dict[str, Any]:
    """Return the compiled ``infra/provision/inference.bicep``, from the installed package or the checkout."""
    path = _PACKAGED if _PACKAGED.exists() else _CHECKOUT
    return json.loads(path.read_text(encoding="utf-8"))


class ArmDeployment:
    """A deployment in a resource group. Every method sends requests and raises :class:`AzureFailed`."""

    def __init__(self, cloud: Cloud, subscription: str, resource_group: str, name: str) -> None:
        self.cloud = cloud
        self.subscription = subscription
        self.resource_group = resource_group
        self.name = name
        self._retry_after = 0.0

    @classmethod
    def of_id(cls, cloud: Cloud, id_: str) -> ArmDeployment:
        """Return the deployment with a resource id."""
        parts = id_.split("/")
        return cls(cloud, parts[2], parts[4], parts[-1])

    @property
    def id(self) -> str:
        """Its resource id."""
        group = f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
        return f"{group}/providers/Microsoft.Resources/deployments/{self.name}"

    @property
    def portal_url(self) -> str:
        """The URL of its page in the Azure portal."""
        view = "https://portal.azure.com/#view/HubsExtension/DeploymentDetailsV2.ReactView/id/"
        return view + quote(self.id, safe="")

    def state(self) -> DeploymentState | None:
        """Return its state, None if there is no deployment of this name. One request."""
        request = partial(self._client.get, *self._group_and_name, raw_response_hook=self._note_retry_after)
        found = or_none(f"read the deployment {self.name}", request)
        return None if found is None else DeploymentState.parse(found.as_dict())

    def operations(self) -> list[DeploymentOperation]:
        """Return its operation on each resource, those of its modules included."""
        with translate_errors(f"read the operations of the deployment {self.name}"):
            client = self.cloud.deployments(self.subscription)
            return list_operations(client, self.resource_group, self.name)

    def validate(
        self, template: Mapping[str, Any], parameters: Mapping[str, Any], progress: Progress
    ) -> list[Cause]:
        """Return why Azure would refuse the deployment, an empty list if it would not."""
        from azure.core.exceptions import HttpResponseError

        request = _request(template, parameters)
        with translate_errors(f"check the deployment {self.name}"):
            try:
                error: Any = self._run(self._client.begin_validate, request, progress).get("error")
            except HttpResponseError as refused:
                if refused.status_code != 400:
                    raise
                error = error_body(refused)  # 400 is a result here: the template is not valid
        return explain(error) if error else []

    def what_if(
        self, template: Mapping[str, Any], parameters: Mapping[str, Any], progress: Progress
    ) -> WhatIf:
        """Return what the deployment would change; takes up to a minute."""
        request = _request(template, parameters)
        request["properties"]["whatIfSettings"] = {"resultFormat": "FullResourcePayloads"}
        with translate_errors(f"predict the deployment {self.name}"):
            result = self._run(self._client.begin_what_if, request, progress)
        if result.get("error"):
            causes = explain(result["error"])
            raise AzureFailed(
                f"Azure could not predict the deployment {self.name}: {'; '.join(map(str, causes))}",
                next_step=causes[0].next_step,
                code=causes[0].code,
                causes=causes,
            )
        return WhatIf.parse((result.get("properties") or {}).get("changes") or ())

    def start(
        self,
        template: Mapping[str, Any],
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        progress: Progress,
    ) -> None:
        """Start the deployment and return at once.

        Raises if Azure refuses it, for example because one with other ``tags`` is running.
        """
        request = {**_request(template, parameters), "tags": dict(tags)}
        action = f"start the deployment {self.name}"
        begin = partial(
            self._client.begin_create_or_update,
            *self._group_and_name,
            request,
            polling=False,
            raw_response_hook=self._note_retry_after,
            read_timeout=_READ_TIMEOUT,
        )
        try:
            with translate_errors(action):
                start_request(action, begin, progress)
        except AzureFailed:
            # if the response to an accepted request is lost, Azure refuses the request that the SDK repeats
            state = run_cancellable(progress, self.state)
            if state is None or not state.running or dict(state.tags) != dict(tags):
                raise

    def cancel(self) -> bool:
        """Cancel the deployment; return whether it was still running.

        Azure finishes the operations that have started.
        """
        try:
            with translate_errors(f"cancel the deployment {self.name}"):
                self._client.cancel(*self._group_and_name)
        except AzureFailed as refused:
            if refused.status == 409:  # it had already ended
                return False
            raise
        return True

    def watch(self, progress: Progress, *, cancels: bool = True) -> Mapping[str, Any]:
        """Wait for the end, report each resource's start and end, and return the outputs.

        Polls in the interval of the SDK's clients, or after the Retry-After of the last response if that is
        longer. Raises :class:`ProvisionFailed` with ``causes``. A cancel, or ■, cancels the deployment in
        Azure and raises :class:`Cancelled`, which names what Azure still finishes; without ``cancels``, as
        for a deployment of another client, it only ends the wait.
        """
        interval = self.cloud.poll_interval
        reported: dict[str, str] = {}
        failures = 0

        def ended() -> tuple[DeploymentState | None, list[DeploymentOperation]] | None:
            nonlocal failures
            try:
                state, operations = run_cancellable(progress, lambda: (self.state(), self.operations()))
            except AzureFailed:
                failures += 1
                if failures >= _MAX_FAILURES:
                    raise
                progress.note("Azure does not respond; the deployment continues, and so does the wait")
                return None
            failures = 0
            _report(operations, reported, progress)
            return None if state is not None and state.running else (state, operations)

        def pause() -> float:
            return interval * failures if failures else max(interval, self._retry_after)

        try:
            result = progress.wait_until(ended, interval=pause)
            assert result is not None  # there is no timeout
            return self._outputs(*result)
        except (Cancelled, KeyboardInterrupt) as stopped:
            reason = stopped.message.rstrip(".") if isinstance(stopped, Cancelled) else "Interrupted"
            if cancels:
                raise self._cancelled(reason) from stopped
            raise Cancelled(
                f"{reason}. This run only waited for the deployment {self.name}, which continues in Azure.",
                next_step=f"open {self.portal_url}; to end the deployment, cancel it there",
            ) from stopped

    def _outputs(
        self, state: DeploymentState | None, operations: Sequence[DeploymentOperation]
    ) -> Mapping[str, Any]:
        if state is not None and state.status == "Succeeded":
            return state.outputs
        if state is None or state.status == "Canceled":
            reason = "was deleted" if state is None else "was cancelled by another client"
            raise ProvisionFailed(
                f"The deployment {self.name} {reason} before it was done.",
                next_step="run the step again; it continues with what is not done",
                causes=[],
                portal_url=self.portal_url,
            )
        causes = [cause for operation in operations for cause in operation.causes] or explain(state.error)
        lines = "".join(f"\n  {cause}\n    Next: {cause.next_step}" for cause in causes)
        raise ProvisionFailed(
            f"The deployment {self.name} failed:{lines}",
            next_step=f"{causes[0].next_step}; the deployment: {self.portal_url}",
            causes=causes,
            portal_url=self.portal_url,
        )

    def _cancelled(self, reason: str) -> Cancelled:
        try:
            running, unfinished = run_cancellable(
                None,
                lambda: (self.cancel(), [one.title for one in self.operations() if one.running]),
                timeout=_CANCEL_TIMEOUT,
            )
        except (CallTimeout, AzureFailed) as failed:
            outcome = f"The request to cancel the deployment {self.name} has no response yet."
            if isinstance(failed, AzureFailed):
                outcome = f"Whether Azure cancels the deployment {self.name} is not known: {failed.message}"
            step = f"open {self.portal_url}; running the step again attaches to it"
            return Cancelled(f"{reason}. {outcome}", next_step=step)
        if not running:
            return Cancelled(
                f"{reason}. The deployment {self.name} had ended before the cancel request reached Azure.",
                next_step="run the step again; it finds what is done",
            )
        rest = f"Azure still finishes {', '.join(unfinished)}" if unfinished else "nothing more is created"
        return Cancelled(
            f"{reason}. The deployment {self.name} is cancelled; {rest}. Created resources stay.",
            next_step="run the step again to continue, or teardown() to remove what was created",
            running=unfinished,
        )

    def _run(
        self, begin: Callable[..., Any], request: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        poller = run_cancellable(
            progress, lambda: begin(*self._group_and_name, request, read_timeout=_READ_TIMEOUT)
        )
        wait_for_poller(poller, progress)
        return poller.result().as_dict()

    def _note_retry_after(self, response: Any) -> None:
        self._retry_after = retry_after(response.http_response.headers) or 0.0

    @property
    def _client(self) -> Any:  # the SDK accepts plain JSON too, which its overloads do not declare
        return self.cloud.deployments(self.subscription).deployments

    @property
    def _group_and_name(self) -> tuple[str, str]:
        return self.resource_group, self.name


def _request(template: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: {"value": value} for name, value in parameters.items()}
    return {"properties": {"mode": "Incremental", "template": dict(template), "parameters": values}}


def _report(operations: Sequence[DeploymentOperation], reported: dict[str, str], progress: Progress) -> None:
    """Report each resource once when its operation starts and once when it ends."""
    for operation in operations:
        if reported.get(operation.id) != operation.status:
            reported[operation.id] = operation.status
            progress.note(f"{operation.title}: {operation.status_text}")
    if operations:
        done = sum(not operation.running for operation in operations)
        progress.advance(done, len(operations), "resources")
