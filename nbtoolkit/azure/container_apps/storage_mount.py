"""The environment storage through which an app mounts its file share, and the account key in it.

Azure never returns the key of a storage, so a rotated key shows only when a mount fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbtoolkit.azure.arm.long_running import change
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.models import AppState, Json
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.resource_id import parse_location
from nbtoolkit.errors import Blocked, InvalidSettings
from nbtoolkit.progress import Progress


@dataclass(frozen=True)
class StorageMount:
    """A storage of an environment: the account and file share that apps can mount."""

    environment_id: str
    name: str
    account: str
    share: str
    access: str

    @property
    def id(self) -> str:
        """The resource id of the storage."""
        return f"{self.environment_id}/storages/{self.name}"


@dataclass(frozen=True)
class AccountKey:
    """The first key of a storage account and its creation time; ``repr`` hides the value."""

    value: str
    created: str

    def __repr__(self) -> str:
        return f"AccountKey(created={self.created!r})"


def read_mount(app: ContainerApp, state: AppState) -> StorageMount:
    """Return the storage that the app mounts. One request.

    Raises :class:`InvalidSettings` if the app mounts none, or one of another account than the config file's.
    """
    names = [str(one["storageName"]) for one in state.volumes if one.get("storageType") == "AzureFile"]
    if not names:
        raise InvalidSettings(
            f"The app {state.name} mounts no file share.",
            next_step="run provision(): it updates the app in place",
        )
    subscription, group, environment = parse_location(state.environment_id)
    with translate_errors(f"read the storage {names[0]} of the environment {environment}"):
        client: Any = app.cloud.containerapps(subscription)
        storage = client.managed_environments_storages.get(group, environment, names[0]).as_dict()
    file: Json = storage["properties"].get("azureFile") or {}
    account = app.provisioned.storage_account
    if str(file.get("accountName")).lower() != account.lower():
        raise InvalidSettings(
            f"The app {state.name} mounts the account {file.get('accountName')!r}, and the config file names "
            f"{account!r}.",
            next_step="correct STORAGE_ACCOUNT_NAME in infra/inference.config.json, or run provision()",
        )
    return StorageMount(
        state.environment_id, names[0], str(file["accountName"]), file["shareName"], file["accessMode"]
    )


def current_key(app: ContainerApp) -> AccountKey:
    """Return the account's current key; keep it in memory only. Two requests.

    Raises :class:`Blocked` if the account refuses keys: then no key makes the mount work.
    """
    provisioned = app.provisioned
    account, group = provisioned.storage_account, provisioned.resource_group
    client: Any = app.cloud.storage(provisioned.subscription)
    with translate_errors(f"read the storage account {account}"):
        body: Json = client.storage_accounts.get_properties(group, account).as_dict()
    if (body.get("properties") or {}).get("allowSharedKeyAccess") is False:
        blocker = (
            f"The storage account {account} refuses its keys, and Container Apps can mount a "
            "share only with a key"
        )
        raise Blocked(
            f"{blocker}.",
            next_step='enable "Allow storage account key access" on its Configuration page, then run this '
            "again",
            blockers=[blocker],
        )
    with translate_errors(f"read the keys of the storage account {account}"):
        first = client.storage_accounts.list_keys(group, account).as_dict()["keys"][0]
    return AccountKey(first["value"], str(first.get("creationTime") or ""))


def write_key(app: ContainerApp, mount: StorageMount, key: AccountKey, progress: Progress) -> None:
    """Write a key into the environment storage. One PUT; nothing else of it changes."""
    subscription, group, environment = parse_location(mount.environment_id)
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
