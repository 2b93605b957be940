"""The way by which an environment mounts the share: a storage of its own that holds the account's key.

Azure takes the key and never gives it back, so a key that was rotated shows only where a mount fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbtoolkit.azure.arm.long_running import change
from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.logs.stream import system
from nbtoolkit.azure.resource_id import place_of
from nbtoolkit.azure.startup.failures import is_mount_failure
from nbtoolkit.errors import Blocked, InvalidSettings
from nbtoolkit.progress import Progress

_TAIL = 100


@dataclass(frozen=True)
class Mount:
    """A share as an environment knows it."""

    environment_id: str
    name: str
    account: str
    share: str
    access: str

    @property
    def id(self) -> str:
        """The id of the environment's storage."""
        return f"{self.environment_id}/storages/{self.name}"


@dataclass(frozen=True)
class Key:
    """The account's first key, never shown, and when Azure made it."""

    value: str
    created: str

    def __repr__(self) -> str:
        return f"Key(created={self.created!r})"


def mount_of(app: App, now: AppState) -> Mount:
    """Return how the app's environment mounts its share. One request.

    Raises :class:`InvalidSettings` where the app mounts none, or that of another account.
    """
    volumes: list[Mapping[str, Any]] = list(now.template.get("volumes") or ())
    names = [str(one["storageName"]) for one in volumes if one.get("storageType") == "AzureFile"]
    if not names:
        raise InvalidSettings(
            f"The app {now.name} mounts no file share.",
            next_step="run provision(): it updates the app in place",
        )
    subscription, group, environment = place_of(now.environment_id)
    with translate_errors(f"read the storage {names[0]} of the environment {environment}"):
        client: Any = app.cloud.containerapps(subscription)
        found = client.managed_environments_storages.get(group, environment, names[0]).as_dict()
    file: Mapping[str, Any] = found["properties"].get("azureFile") or {}
    account = app.provisioned.storage_account
    if str(file.get("accountName")).lower() != account.lower():
        raise InvalidSettings(
            f"The app {now.name} mounts the account {file.get('accountName')!r}, and the config file names "
            f"{account!r}.",
            next_step="correct STORAGE_ACCOUNT_NAME in infra/inference.config.json, or run provision()",
        )
    return Mount(
        now.environment_id, names[0], str(file["accountName"]), file["shareName"], file["accessMode"]
    )


def present_key(app: App) -> Key:
    """Return the account's key as it is now; keep it in memory only. Two requests.

    Raises :class:`Blocked` where the account takes no keys, so that no key would help.
    """
    place = app.provisioned
    client: Any = app.cloud.storage(place.subscription)
    with translate_errors(f"read the storage account {place.storage_account}"):
        account = client.storage_accounts.get_properties(place.resource_group, place.storage_account)
    properties: Mapping[str, Any] = account.as_dict().get("properties") or {}
    if properties.get("allowSharedKeyAccess") is False:
        refused = (
            f"The storage account {place.storage_account} refuses its keys, and Container Apps mounts a "
            "share with nothing else"
        )
        raise Blocked(
            f"{refused}.",
            next_step='enable "Allow storage account key access" in its Configuration page, then run this '
            "again",
            blockers=[refused],
        )
    with translate_errors(f"read the keys of the storage account {place.storage_account}"):
        listed = client.storage_accounts.list_keys(place.resource_group, place.storage_account).as_dict()
    first = listed["keys"][0]
    return Key(first["value"], str(first.get("creationTime") or ""))


def failed_mounts(app: App, progress: Progress) -> list[str]:
    """Return the replicas that Azure cannot start since their mount fails; wakes nothing."""
    waiting = {
        replica.name
        for replica in AppPoller(app).look().living
        if not any(container.state == "Running" for container in replica.containers)
    }
    if not waiting:
        return []
    events = system(app, tail=_TAIL, progress=progress)
    failed = {line.source for line in events if is_mount_failure(line.text)}
    return sorted(failed & waiting)


def write(app: App, mount: Mount, key: Key, progress: Progress) -> None:
    """Give the environment a key for the share that it mounts. One PUT; nothing else of it changes."""
    subscription, group, environment = place_of(mount.environment_id)
    client: Any = app.cloud.containerapps(subscription)
    file = {
        "accountName": mount.account,
        "accountKey": key.value,
        "shareName": mount.share,
        "accessMode": mount.access,
    }

    def begin() -> None:
        client.managed_environments_storages.create_or_update(
            group, environment, mount.name, {"properties": {"azureFile": file}}
        )

    change(mount.environment_id, f"write the storage {mount.name} of {environment}", begin, progress)
