"""Names and ids of an inference app's resources: from the config file, chosen, or the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.infra_files import InfraFiles
from nbtoolkit.workspace import Workspace

_CONFIG_KEYS = {
    "subscription": "SUBSCRIPTION_ID",
    "resource_group": "RESOURCE_GROUP_NAME",
    "storage_account": "STORAGE_ACCOUNT_NAME",
    "file_share": "FILE_SHARE_NAME",
    "app": "ACA_APP_NAME",
    "endpoint": "ACA_APP_ENDPOINT",
}
"""Field → key of ``infra/inference.config.json``."""

_DEFAULTS = {
    "storage_account": "aistorage",
    "file_share": "aifileshare",
    "app": "aiacaapp",
    "environment": "aienv",
    "environment_storage": "aienvstorage",
    "log_analytics": "ailog",
}
"""Field → prefix of the default name."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class ResourceNames:
    """The name of each resource in one resource group.

    The config file has no key for the last three names: :meth:`read` leaves them blank. ``endpoint`` is None
    until the app has an address.
    """

    subscription: str
    resource_group: str
    storage_account: str
    file_share: str
    app: str
    endpoint: str | None = None
    environment: str = ""
    environment_storage: str = ""
    log_analytics: str = ""

    @classmethod
    def read(cls, workspace: Workspace) -> ResourceNames:
        """Return the names in ``infra/inference.config.json``, written by :func:`provision` or by hand.

        Raises :class:`InvalidSettings` naming the missing keys.
        """
        files = InfraFiles(workspace)
        file = files.inference_config
        values = {name: file.get(key) for name, key in _CONFIG_KEYS.items()}
        missing = [key for name, key in _CONFIG_KEYS.items() if name != "endpoint" and not values[name]]
        if missing:
            what = f"lacks {', '.join(missing)}" if file.exists else "does not exist"
            raise InvalidSettings(
                f"{file.path} {what}, so it is not known where this workspace runs on Azure.",
                next_step="run provision(), or write the names of existing resources into that file",
            )
        values["endpoint"] = files.endpoint
        return cls(**values)

    @classmethod
    def derive(cls, subscription: str, resource_group: str, **chosen: str) -> ResourceNames:
        """Return the ``chosen`` names, and the AI Toolkit's default for each that is blank or not given.

        The defaults depend on the case of both ids: use the spelling that Azure shows. No request.
        """
        suffix = unique_string(_group_id(subscription, resource_group))[:5]
        names = {name: chosen.get(name) or f"{prefix}{suffix}" for name, prefix in _DEFAULTS.items()}
        return cls(subscription, resource_group, **names)

    def write(self, workspace: Workspace) -> bool:
        """Write the config file and keep its other keys; return whether anything changed."""
        file = InfraFiles(workspace).inference_config
        for name, key in _CONFIG_KEYS.items():
            value: str | None = getattr(self, name)
            file.set(key, value.removeprefix("https://") if value else None)
        return file.save()

    @property
    def group_id(self) -> str:
        """The id of the resource group."""
        return _group_id(self.subscription, self.resource_group)

    @property
    def app_id(self) -> str:
        """The id of the container app."""
        return self._id("Microsoft.App/containerApps", self.app)

    @property
    def account_id(self) -> str:
        """The id of the storage account."""
        return self._id("Microsoft.Storage/storageAccounts", self.storage_account)

    @property
    def environment_id(self) -> str:
        """The id of the environment."""
        return self._id("Microsoft.App/managedEnvironments", self.environment)

    @property
    def ids(self) -> dict[str, str]:
        """Field → id of each named resource, in the order in which they are created."""
        ids = {
            "storage_account": self.account_id,
            "file_share": f"{self.account_id}/fileServices/default/shares/{self.file_share}",
            "log_analytics": self._id("Microsoft.OperationalInsights/workspaces", self.log_analytics),
            "environment": self.environment_id,
            "environment_storage": f"{self.environment_id}/storages/{self.environment_storage}",
            "app": self.app_id,
        }
        return {name: id_ for name, id_ in ids.items() if getattr(self, name)}

    def _id(self, resource_type: str, name: str) -> str:
        return f"{self.group_id}/providers/{resource_type}/{name}"


def unique_string(*values: str) -> str:
    """Return what the template function ``uniqueString`` returns: 13 letters and digits."""
    number = _murmur("-".join(values).encode()) << 1  # 13 letters of 5 bits hold 65
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(60, -1, -5))


def _group_id(subscription: str, resource_group: str) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{resource_group}"


def _murmur(data: bytes) -> int:
    """Hash to 64 bits with two 32-bit lanes, mixed like those of MurmurHash3."""
    low = high = 0
    for start in range(0, len(data), 8):
        block = data[start : start + 8]
        low ^= _scramble(int.from_bytes(block[:4], "little"), 0x239B961B, 15, 0xAB0E9789)
        if len(block) == 8:  # a shorter last block is scrambled only
            low = (_rotate(low, 19) + high) * 5 + 0x561CCD1B & _MASK
        high ^= _scramble(int.from_bytes(block[4:], "little"), 0xAB0E9789, 17, 0x239B961B)
        if len(block) == 8:
            high = (_rotate(high, 13) + low) * 5 + 0x0BCAA747 & _MASK
    low, high = _mix(low ^ len(data), high ^ len(data))
    low, high = _mix(_finalize(low), _finalize(high))
    return high << 32 | low


def _scramble(part: int, first: int, bits: int, second: int) -> int:
    return _rotate(part * first & _MASK, bits) * second & _MASK


def _rotate(number: int, bits: int) -> int:
    return (number << bits | number >> 32 - bits) & _MASK


def _mix(low: int, high: int) -> tuple[int, int]:
    low = low + high & _MASK
    return low, high + low & _MASK


def _finalize(number: int) -> int:
    number = (number ^ number >> 16) * 0x85EBCA6B & _MASK
    number = (number ^ number >> 13) * 0xC2B2AE35 & _MASK
    return number ^ number >> 16
