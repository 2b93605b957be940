"""Read a container app through Azure Resource Manager and change it without losing other settings."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nbtoolkit.azure.arm.long_running import RETRY_TIMEOUT, change
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.azure.container_apps.revisions import ReplicaState, RevisionState
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.resource_id import parse_location
from nbtoolkit.errors import AzureFailed, Cancelled, InvalidSettings, NbtoolkitError
from nbtoolkit.progress import SILENT, Progress, UncancellableProgress

if TYPE_CHECKING:
    from nbtoolkit.azure.arm.resource_names import ResourceNames
    from nbtoolkit.azure.clients import Cloud

OnPoll = Callable[[], None]
"""Called while Azure works on a change; an error that it raises ends the wait."""
_NEXT_STEP = "scale(ScaleSettings(running=True)) or the portal starts it"
_NOT_IN_SUFFIX = re.compile(r"[^a-z0-9]+")


class ContainerApp:
    """A container app through ARM. Nothing here sends a request to the app's host name, which would wake it.

    Every read is one request. A change waits for the previous change of the same app and for its own end. It
    is a PATCH with only the properties that differ, repeated for ``retry_timeout`` seconds during a change of
    another client. Raises :class:`AzureFailed`, :class:`NotSignedIn`.
    """

    def __init__(
        self, cloud: Cloud, provisioned: ResourceNames, *, retry_timeout: float = RETRY_TIMEOUT
    ) -> None:
        self.cloud = cloud
        self.provisioned = provisioned
        self._retry_timeout = retry_timeout

    def __repr__(self) -> str:
        return f"ContainerApp({self.provisioned.app!r})"

    def get(self) -> AppState:
        """Return the app's current state."""
        with translate_errors(f"read the app {self.provisioned.app}"):
            return AppState(self._client.container_apps.get(*self._path).as_dict())

    def url(self) -> str:
        """Return the URL of the endpoint from the config file, else from ARM in one request."""
        if self.provisioned.endpoint:
            return self.provisioned.endpoint
        host = self.get().host
        if not host:
            raise InvalidSettings(
                f"The app {self.provisioned.app} has no public address: its ingress is off.",
                next_step="turn on the ingress of the app, or run provision() again",
            )
        return f"https://{host}"

    def environment(self, environment_id: str | None = None) -> EnvironmentState:
        """Return the app's environment, also from another resource group; two requests without an id."""
        subscription, group, name = parse_location(environment_id or self.get().environment_id)
        with translate_errors(f"read the environment {name}"):
            client = self.cloud.containerapps(subscription)
            return EnvironmentState(client.managed_environments.get(group, name).as_dict())

    def revisions(self) -> list[RevisionState]:
        """Return all revisions, newest first."""
        with translate_errors(f"list the revisions of the app {self.provisioned.app}"):
            listed = self._client.container_apps_revisions.list_revisions(*self._path)
            found = [RevisionState.from_body(one.as_dict()) for one in listed]
        return sorted(found, key=lambda one: one.created, reverse=True)

    def replicas(self, revision: str) -> list[ReplicaState]:
        """Return the replicas of a revision, newest first."""
        with translate_errors(f"list the replicas of {revision}"):
            listed = self._client.container_apps_revision_replicas.list_replicas(*self._path, revision)
            found = [ReplicaState.from_body(one.as_dict()) for one in listed.value]
        return sorted(found, key=lambda one: one.created, reverse=True)

    def replicas_by_revision(self) -> dict[str, list[ReplicaState]]:
        """Return the replicas of every active revision; one request, and one more for each revision."""
        return {one.name: self.replicas(one.name) for one in self.revisions() if one.active}

    def auth_token(self) -> str:
        """Return the token for the app's log streams, valid for an hour; keep it in memory only."""
        with translate_errors(f"get a log token of the app {self.provisioned.app}"):
            answer = self._client.container_apps.get_auth_token(*self._path)
        token = answer.properties.token if answer.properties else None
        if not token:
            raise AzureFailed(
                f"Azure returned no token for the log streams of the app {self.provisioned.app}.",
                next_step="try again; if that does not help, read the logs in the portal",
            )
        return token

    def secrets(self) -> dict[str, str]:
        """Return the secrets that have their own value, not a key vault's; keep them in memory only."""
        return {one["name"]: one["value"] for one in self._list_secrets() if one.get("value") is not None}

    def set_secrets(self, changes: Mapping[str, str | None], progress: Progress | None = None) -> None:
        """Add, replace or (None) remove secrets and keep all others; replicas read them when they start."""
        progress = progress or SILENT()

        def begin() -> Any:
            # read inside the change, so that two concurrent writers do not lose each other's secrets
            kept = [one for one in self._list_secrets() if one["name"] not in changes]
            progress.check()  # after a cancel, do not write values that may be outdated by then
            new = [{"name": name, "value": value} for name, value in changes.items() if value is not None]
            body = {"properties": {"configuration": {"secrets": [*kept, *new]}}}
            return self._client.container_apps.begin_update(*self._path, body)

        self._change(f"set secrets of the app {self.provisioned.app}", begin, progress)

    def update(
        self, properties: Mapping[str, Any], progress: Progress | None = None, on_poll: OnPoll | None = None
    ) -> None:
        """Change some properties by JSON merge: lists are replaced, properties not named stay."""
        action, apps = f"update the app {self.provisioned.app}", self._client.container_apps
        body = {"properties": dict(properties)}
        self._change(action, lambda: apps.begin_update(*self._path, body), progress, on_poll)

    def new_revision(
        self,
        reason: str,
        progress: Progress | None = None,
        on_poll: OnPoll | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a revision and return its name; the old one serves until the new one is ready.

        ``reason`` becomes part of the name, ``changes`` are merged into its template (JSON merge). Until the
        old revision ends, Azure needs GPUs for both.
        """
        # Azure refuses two consecutive dashes
        plain = _NOT_IN_SUFFIX.sub("-", reason.lower())[:16].strip("-")
        suffix = f"{plain or 'r'}-{secrets.token_hex(3)}"
        self.update({"template": {**(changes or {}), "revisionSuffix": suffix}}, progress, on_poll)
        return f"{self.provisioned.app}--{suffix}"

    def restart(self, revision: str, progress: Progress | None = None) -> None:
        """Restart an active revision; Azure replaces its replicas after this returns."""
        revisions = self._client.container_apps_revisions
        self._change(
            f"restart {revision}", lambda: revisions.restart_revision(*self._path, revision), progress
        )

    def stop(self, progress: Progress | None = None) -> None:
        """Stop the app: no replica runs, none is billed, and no request starts one."""
        apps = self._client.container_apps
        self._change(f"stop the app {self.provisioned.app}", lambda: apps.begin_stop(*self._path), progress)

    def start(self, progress: Progress | None = None, on_poll: OnPoll | None = None) -> None:
        """Start a stopped app; with ``min_replicas=0`` the next request starts a replica."""
        action, apps = f"start the app {self.provisioned.app}", self._client.container_apps
        self._change(action, lambda: apps.begin_start(*self._path), progress, on_poll)

    def _change(
        self, action: str, begin: Callable[[], Any], progress: Progress | None, on_poll: OnPoll | None = None
    ) -> None:
        change(
            self.provisioned.app_id,
            action,
            begin,
            progress or SILENT(),
            on_poll,
            retry_timeout=self._retry_timeout,
            retry_interval=self.cloud.poll_interval,
        )

    def _list_secrets(self) -> list[dict[str, Any]]:
        with translate_errors(f"list the secrets of the app {self.provisioned.app}"):
            return [one.as_dict() for one in self._client.container_apps.list_secrets(*self._path).value]

    @property
    def _client(self) -> Any:  # the SDK's generated signatures are not strict
        return self.cloud.containerapps(self.provisioned.subscription)

    @property
    def _path(self) -> tuple[str, str]:
        return self.provisioned.resource_group, self.provisioned.app


@contextmanager
def stopped(app: ContainerApp, progress: Progress, on_poll: OnPoll | None = None) -> Generator[None]:
    """Stop the app, run the caller's block, and start the app again in any case.

    ``on_poll`` is called while Azure starts it. An error gets the app's state added to its message, and an
    interrupt becomes :class:`Cancelled`.
    """
    is_down = False  # also True for a stop that Azure still works on
    try:
        app.stop(progress)
        is_down = True
        yield
        is_down = False
        app.start(progress, on_poll)
    except KeyboardInterrupt as interrupt:
        state = _start_again(app, progress, is_down=True)
        raise Cancelled(f"Interrupted. {state}", next_step="run the step again") from interrupt
    except NbtoolkitError as error:
        state = _start_again(app, progress, is_down=is_down or isinstance(error, Cancelled))
        error.message = f"{error.message} {state}"
        raise


def _start_again(app: ContainerApp, progress: Progress, *, is_down: bool) -> str:
    """Start the app if it is stopped, also after a cancel; return its state as a sentence."""
    name, uncancellable = app.provisioned.app, UncancellableProgress(progress)
    try:
        if not is_down and not app.get().stopped:
            return f"The app {name} is not stopped."
        uncancellable.note(f"starting the app {name} again")
        app.start(uncancellable)
    except NbtoolkitError as error:
        return f"The app {name} may be stopped: starting it again failed ({error.message}). {_NEXT_STEP}."
    except KeyboardInterrupt:
        return f"The app {name} may be stopped: its start was interrupted too. {_NEXT_STEP}."
    return f"The app {name} was started again."
