"""The container app: read it, and change it in ways that lose nothing."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nbtoolkit.azure.arm.long_running import change
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState, ReplicaState, RevisionState
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.resource_id import place_of
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import SILENT, Progress

if TYPE_CHECKING:
    from nbtoolkit.azure.arm.resource_names import ResourceNames
    from nbtoolkit.azure.clients import Cloud

_SUFFIX = re.compile(r"[^a-z0-9]+")


class App:
    """One container app through ARM; nothing here ever asks its host name, so it never wakes it.

    Every read is one request. Every change waits for its end, follows other changes of the same app, and is
    sent as a PATCH that names only what shall differ. Raises :class:`AzureFailed`, :class:`NotSignedIn`.
    """

    def __init__(self, cloud: Cloud, provisioned: ResourceNames) -> None:
        self.cloud = cloud
        self.provisioned = provisioned

    def __repr__(self) -> str:
        return f"App({self.provisioned.app!r})"

    @property
    def id(self) -> str:
        """The app's resource id."""
        return self.provisioned.app_id

    def get(self) -> AppState:
        """Return the app as it is now."""
        with translate_errors(f"read the app {self.provisioned.app}"):
            return AppState.of(self._client.container_apps.get(*self._where).as_dict())

    def environment(self, environment_id: str | None = None) -> EnvironmentState:
        """Return the app's environment, which may lie in another resource group; two requests without id."""
        subscription, group, name = place_of(environment_id or self.get().environment_id)
        with translate_errors(f"read the environment {name}"):
            client = self.cloud.containerapps(subscription)
            return EnvironmentState.of(client.managed_environments.get(group, name).as_dict())

    def revisions(self) -> list[RevisionState]:
        """Return all revisions, the newest first."""
        with translate_errors(f"list the revisions of the app {self.provisioned.app}"):
            listed = self._client.container_apps_revisions.list_revisions(*self._where)
            found = [RevisionState.of(one.as_dict()) for one in listed]
        return sorted(found, key=lambda one: one.created, reverse=True)

    def replicas(self, revision: str) -> list[ReplicaState]:
        """Return the replicas of a revision, the newest first."""
        with translate_errors(f"list the replicas of {revision}"):
            listed = self._client.container_apps_revision_replicas.list_replicas(*self._where, revision)
            found = [ReplicaState.of(one.as_dict()) for one in listed.value]
        return sorted(found, key=lambda one: one.created, reverse=True)

    def all_replicas(self) -> dict[str, list[ReplicaState]]:
        """Return the replicas of every active revision, by revision; one request each and one more."""
        return {one.name: self.replicas(one.name) for one in self.revisions() if one.active}

    def auth_token(self) -> str:
        """Return the token for the app's log streams, valid for an hour; keep it in memory only."""
        with translate_errors(f"get a log token of the app {self.provisioned.app}"):
            answer = self._client.container_apps.get_auth_token(*self._where)
        token = answer.properties.token if answer.properties else None
        if not token:
            raise AzureFailed(
                f"Azure gave no token for the logs of {self.provisioned.app}.",
                next_step="try again; if that does not help, read the logs in the portal",
            )
        return token

    def secret_names(self) -> list[str]:
        """Return the names of the app's secrets, without reading their values."""
        with translate_errors(f"read the app {self.provisioned.app}"):
            app: Mapping[str, Any] = self._client.container_apps.get(*self._where).as_dict()
        found = app["properties"].get("configuration", {}).get("secrets") or []
        return [one["name"] for one in found]

    def secrets(self) -> dict[str, str]:
        """Return the secrets that have a value of their own; keep them in memory only."""
        return {one["name"]: one["value"] for one in self._listed_secrets() if one.get("value") is not None}

    def set_secrets(self, changes: Mapping[str, str | None], progress: Progress | None = None) -> None:
        """Add, replace or (None) remove secrets and keep all others; replicas see it after a restart."""
        progress = progress or SILENT()

        def begin() -> Any:
            # read within the change, so that of two writers neither loses the other's
            kept = [one for one in self._listed_secrets() if one["name"] not in changes]
            progress.check()  # who no longer waits must not write later what is old by then
            new = [{"name": name, "value": value} for name, value in changes.items() if value is not None]
            body = {"properties": {"configuration": {"secrets": [*kept, *new]}}}
            return self._client.container_apps.begin_update(*self._where, body)

        self._change(f"set secrets of the app {self.provisioned.app}", begin, progress)

    def update(
        self,
        properties: Mapping[str, Any],
        progress: Progress | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Change some properties (JSON merge: lists are replaced, what is not named stays).

        ``meanwhile`` is called while Azure works on it; what it raises ends the waiting.
        """

        def begin() -> Any:
            return self._client.container_apps.begin_update(*self._where, {"properties": dict(properties)})

        self._change(f"update the app {self.provisioned.app}", begin, progress, meanwhile)

    def new_revision(
        self,
        reason: str,
        progress: Progress | None = None,
        meanwhile: Callable[[], None] | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a revision and return its name; the old one serves until it is ready.

        ``reason`` becomes part of the name, ``changes`` are what differs in its template (JSON merge). For
        that while Azure needs GPUs for both.
        """
        plain = _SUFFIX.sub("-", reason.lower())[:16].strip("-")  # Azure takes no two dashes in a row
        suffix = f"{plain or 'r'}-{secrets.token_hex(3)}"
        self.update({"template": {**(changes or {}), "revisionSuffix": suffix}}, progress, meanwhile)
        return f"{self.provisioned.app}--{suffix}"

    def restart(self, revision: str, progress: Progress | None = None) -> None:
        """Restart an active revision; Azure replaces its replicas after this returns, none where none run."""

        def begin() -> None:
            self._client.container_apps_revisions.restart_revision(*self._where, revision)

        self._change(f"restart {revision}", begin, progress)

    def stop(self, progress: Progress | None = None) -> None:
        """Stop the app: no replica, no bill for one, and no request wakes it."""

        def begin() -> Any:
            return self._client.container_apps.begin_stop(*self._where)

        self._change(f"stop the app {self.provisioned.app}", begin, progress)

    def start(self, progress: Progress | None = None, meanwhile: Callable[[], None] | None = None) -> None:
        """Start a stopped app again; where it may scale to zero, the next request wakes a replica."""

        def begin() -> Any:
            return self._client.container_apps.begin_start(*self._where)

        self._change(f"start the app {self.provisioned.app}", begin, progress, meanwhile)

    def _change(
        self,
        what: str,
        begin: Callable[[], Any],
        progress: Progress | None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        change(self.id, what, begin, progress or SILENT(), meanwhile)

    def _listed_secrets(self) -> list[dict[str, Any]]:
        with translate_errors(f"list the secrets of the app {self.provisioned.app}"):
            return [one.as_dict() for one in self._client.container_apps.list_secrets(*self._where).value]

    @property
    def _client(self) -> Any:  # its generated signatures are not strict
        return self.cloud.containerapps(self.provisioned.subscription)

    @property
    def _where(self) -> tuple[str, str]:
        return self.provisioned.resource_group, self.provisioned.app


def secret_of(variable: str) -> str:
    """Return the secret that becomes an environment variable."""
    return variable.lower().replace("_", "-")
