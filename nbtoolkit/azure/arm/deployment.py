"""One ARM deployment by its name: check it, predict it, start it, watch it, cancel it, find it again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from nbtoolkit.azure import sdk
from nbtoolkit.azure.arm.deployment_operations import Step, read_steps
from nbtoolkit.azure.arm.deployment_state import State
from nbtoolkit.azure.arm.long_running import start_request
from nbtoolkit.azure.arm.what_if import WhatIf
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.arm_error import Cause, explain
from nbtoolkit.azure.errors.translate import or_none, translate_errors
from nbtoolkit.azure.sdk import retry_after
from nbtoolkit.errors import AzureFailed, Cancelled, ProvisionFailed
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import CallTimeout, run_cancellable

_PATIENCE = 5
"""Looks in a row that may fail before watching gives up: Azure goes on meanwhile."""
_LONG = 300
"""Seconds that Azure may think about a whole template before it answers."""
_LAST_WORD = 1.5
"""Seconds that a cancel waits for Azure's word; the request is on its way all the same."""


class ArmDeployment:
    """A deployment in a resource group. Every method asks Azure; raises :class:`AzureFailed`."""

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
        """Its page in the Azure portal."""
        view = "https://portal.azure.com/#view/HubsExtension/DeploymentDetailsV2.ReactView/id/"
        return view + quote(self.id, safe="")

    def state(self) -> State | None:
        """Return where it stands, None where there is none of this name."""

        def ask() -> Any:
            return self._operations.get(*self._where, raw_response_hook=self._note_retry_after)

        found = or_none(f"read the deployment {self.name}", ask)
        return None if found is None else State.of(found.as_dict())

    def validate(
        self, template: Mapping[str, Any], parameters: Mapping[str, Any], progress: Progress
    ) -> list[Cause]:
        """Return why Azure would refuse the deployment, nothing where it would not."""
        from azure.core.exceptions import HttpResponseError

        from nbtoolkit.azure.errors.translate import body

        with translate_errors(f"check the deployment {self.name}"):
            try:
                poller = run_cancellable(
                    progress,
                    lambda: self._operations.begin_validate(
                        *self._where, _request(template, parameters), read_timeout=_LONG
                    ),
                )
                error: Any = _waited_for(poller, progress).get("error")
            except HttpResponseError as refused:
                if refused.status_code != 400:
                    raise
                error = body(refused)  # 400 is an answer here: the template is not valid
        return explain(error) if error else []

    def what_if(
        self, template: Mapping[str, Any], parameters: Mapping[str, Any], progress: Progress
    ) -> WhatIf:
        """Return what the deployment would change; takes up to a minute."""
        with translate_errors(f"predict the deployment {self.name}"):
            request = _request(template, parameters)
            request["properties"]["whatIfSettings"] = {"resultFormat": "FullResourcePayloads"}
            poller = run_cancellable(
                progress,
                lambda: self._operations.begin_what_if(*self._where, request, read_timeout=_LONG),
            )
            answer = _waited_for(poller, progress)
        if answer.get("error"):
            causes = explain(answer["error"])
            raise AzureFailed(
                f"Azure could not predict the deployment {self.name}: {'; '.join(map(str, causes))}",
                next_step=causes[0].next_step,
                code=causes[0].code,
                causes=causes,
            )
        return WhatIf.of((answer.get("properties") or {}).get("changes") or ())

    def start(
        self,
        template: Mapping[str, Any],
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        progress: Progress,
    ) -> None:
        """Ask Azure to begin; returns at once.

        Raises where Azure refuses, as when one with other ``tags`` runs already.
        """
        request = {**_request(template, parameters), "tags": dict(tags)}
        what = f"start the deployment {self.name}"

        def begin() -> None:
            self._operations.begin_create_or_update(
                *self._where,
                request,
                polling=False,
                raw_response_hook=self._note_retry_after,
                read_timeout=_LONG,
            )

        try:
            with translate_errors(what):
                start_request(what, begin, progress)
        except AzureFailed:
            # the answer to a request that Azure took may be lost, and the SDK's second one is then refused
            state = run_cancellable(progress, self.state)
            if state is None or not state.running or dict(state.tags) != dict(tags):
                raise

    def cancel(self) -> bool:
        """Ask Azure to begin nothing more of it; tell whether it was still running.

        What Azure has begun it finishes.
        """
        try:
            with translate_errors(f"cancel the deployment {self.name}"):
                self._operations.cancel(*self._where)
        except AzureFailed as refused:
            if refused.status == 409:  # it had ended already
                return False
            raise
        return True

    def steps(self) -> list[Step]:
        """Return what it does to each resource, those of its modules too."""
        with translate_errors(f"read the steps of the deployment {self.name}"):
            return read_steps(self.cloud.deployments(self.subscription), self.resource_group, self.name)

    def watch(self, progress: Progress, *, cancels: bool = True) -> Mapping[str, Any]:
        """Wait for the end, telling each resource's, and return the outputs.

        Raises :class:`ProvisionFailed` with ``causes``. A cancel, or ■, cancels the deployment in Azure and
        raises :class:`Cancelled`, which names what Azure still finishes; without ``cancels``, as for one that
        somebody else started, it only ends the waiting.
        """
        told: dict[str, str] = {}
        failures = 0
        try:
            while True:
                try:
                    state, steps = run_cancellable(progress, lambda: (self.state(), self.steps()))
                    failures = 0
                except AzureFailed:
                    failures += 1
                    if failures >= _PATIENCE:
                        raise
                    progress.note("Azure does not answer; it goes on, and so does the waiting")
                    progress.sleep(sdk.POLL_INTERVAL * failures)
                    continue
                _tell(steps, told, progress)
                if state is None or not state.running:
                    return self._outcome(state, steps)
                self._pause(progress)
        except (Cancelled, KeyboardInterrupt) as stopped:
            raise (self._stopped(stopped) if cancels else self._left(stopped)) from stopped

    def _left(self, stopped: BaseException) -> Cancelled:
        what = stopped.message.rstrip(".") if isinstance(stopped, Cancelled) else "Interrupted"
        return Cancelled(
            f"{what}. This run only waited for the deployment {self.name}, and it goes on in Azure.",
            next_step=f"look at {self.portal_url}; to end it, cancel it there",
        )

    def _outcome(self, state: State | None, steps: list[Step]) -> Mapping[str, Any]:
        if state is not None and state.status == "Succeeded":
            return state.outputs
        if state is None or state.status == "Canceled":
            what = "is gone" if state is None else "was cancelled by somebody"
            raise ProvisionFailed(
                f"The deployment {self.name} {what} before it was done.",
                next_step="run the step again; it goes on from what is done",
                causes=[],
                portal_url=self.portal_url,
            )
        causes = [cause for step in steps for cause in step.causes] or explain(state.error)
        lines = "".join(f"\n  {cause}\n    Next: {cause.next_step}" for cause in causes)
        raise ProvisionFailed(
            f"The deployment {self.name} failed:{lines}",
            next_step=f"{causes[0].next_step}; the deployment: {self.portal_url}",
            causes=causes,
            portal_url=self.portal_url,
        )

    def _stopped(self, stopped: BaseException) -> Cancelled:
        what = stopped.message.rstrip(".") if isinstance(stopped, Cancelled) else "Interrupted"
        try:
            ended, still = run_cancellable(None, self._cancel_and_look, timeout=_LAST_WORD)
        except CallTimeout:
            return Cancelled(
                f"{what}. Azure was asked to cancel the deployment {self.name} and has not answered yet.",
                next_step=f"look at {self.portal_url}; running the step again attaches to it",
            )
        except AzureFailed as failed:
            return Cancelled(
                f"{what}. Whether Azure cancels the deployment {self.name} is not known: {failed.message}",
                next_step=f"look at {self.portal_url}; running the step again attaches to it",
            )
        if ended:
            return Cancelled(
                f"{what}. The deployment {self.name} had ended before the cancel request reached Azure.",
                next_step="run the step again; it finds what is done",
            )
        goes_on = f"Azure still finishes {', '.join(still)}" if still else "nothing is being created any more"
        return Cancelled(
            f"{what}. The deployment {self.name} is cancelled; {goes_on}. What was created stays.",
            next_step="run the step again to go on from there, or teardown() to remove what was created",
            running=still,
        )

    def _cancel_and_look(self) -> tuple[bool, list[str]]:
        """Cancel it; return whether it had ended before, and what Azure still finishes."""
        ended = not self.cancel()
        return ended, [step.title for step in self.steps() if step.running]

    def _pause(self, progress: Progress) -> None:
        deadline = time.monotonic() + max(sdk.POLL_INTERVAL, self._retry_after)
        while (left := deadline - time.monotonic()) > 0:
            progress.sleep(min(left, 0.5))

    def _note_retry_after(self, answered: Any) -> None:
        self._retry_after = retry_after(answered.http_response.headers) or 0.0

    @property
    def _operations(self) -> Any:  # the SDK takes plain JSON too, which its overloads do not say
        return self.cloud.deployments(self.subscription).deployments

    @property
    def _where(self) -> tuple[str, str]:
        return self.resource_group, self.name


def _waited_for(poller: Any, progress: Progress) -> dict[str, Any]:
    while not poller.done():
        poller.wait(0.5)
        progress.check()
    return poller.result().as_dict()


def _request(template: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: {"value": value} for name, value in parameters.items()}
    return {"properties": {"mode": "Incremental", "template": dict(template), "parameters": values}}


def _tell(steps: list[Step], told: dict[str, str], progress: Progress) -> None:
    """Tell of each resource once when it begins and once when it ends."""
    for step in steps:
        if told.get(step.id) != step.status:
            told[step.id] = step.status
            progress.note(f"{step.title}: {step.words}")
    if steps:
        progress.advance(sum(not step.running for step in steps), len(steps), "resources")
