"""The settings of a provision, and those that the workspace's infra files hold."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.infra_files import InfraFile, InfraFiles
from nbtoolkit.settings import Settings
from nbtoolkit.workspace import Workspace

_DEFAULT = "blank: from the workspace's parameter file or fine-tuning step, else a default name"

NAMES = ("storage_account", "file_share", "environment_name", "environment_storage", "app", "log_analytics")
"""Settings that name a resource; :class:`ResourceNames` has them without ``_name``."""


PARAMETERS: Mapping[str, str] = {
    "commands": "defaultCommands",
    "max_replicas": "maximumInstanceCount",
    "location": "location",
    "storage_account": "storageAccountName",
    "file_share": "fileShareName",
    "environment_name": "acaEnvironmentName",
    "environment_storage": "acaEnvironmentStorageName",
    "app": "acaAppName",
    "log_analytics": "acaLogAnalyticsName",
    "gpu": "gpu",
    "workload_profile": "workloadProfileName",
    "engine": "engine",
    "quantization": "quantization",
    "image": "containerImage",
    "registry_server": "registryServer",
    "registry_username": "registryUsername",
    "registry_identity": "registryIdentity",
    "min_replicas": "minimumInstanceCount",
    "concurrent_requests": "concurrentRequests",
    "cooldown": "cooldownSeconds",
    "termination_grace": "terminationGraceSeconds",
    "base_model": "baseModel",
    "environment_variables": "environmentVariables",
    "allowed_ip_ranges": "allowedIpRanges",
    "tags": "tags",
}
"""Setting → parameter of the template; the first nine are the AI Toolkit's."""

_FINE_TUNING = ("location", "storage_account", "file_share", "environment_name", "environment_storage")
_CONFIG_KEYS = {
    "subscription": "SUBSCRIPTION_ID",
    "resource_group": "RESOURCE_GROUP_NAME",
    "storage_account": "STORAGE_ACCOUNT_NAME",
    "file_share": "FILE_SHARE_NAME",
}


class Consent(Settings):
    """The notebook parameter that lets a step create what costs money; without it the step only plans."""

    apply: bool = Field(default=False, description="create what costs money; no: only plan it")


class ProvisionSettings(Settings):
    """The subscription, GPU, replicas and resource names of the inference app.

    Blank values come from ``infra/inference.parameters.json``, then from the files of the fine-tuning step,
    then from the AI Toolkit's default names. Secrets are never written to a file: ``secrets`` holds names of
    environment variables of this kernel, and secret fields are masked.

    >>> settings = ProvisionSettings(resource_group="my-rg", location="West US 3", gpu="T4")
    >>> settings.location, settings.min_replicas, settings.max_replicas
    ('westus3', 0, 1)
    """

    subscription: str = Field(default="", description="its id; blank: that of the fine-tuning step")
    resource_group: str = Field(default="", description="blank: that of the fine-tuning step")
    allow_downtime: bool = Field(
        default=False,
        description="stop the app for a change if there is no GPU for old and new at once",
    )
    create_resource_group: bool = Field(default=False, description="create the group if it does not exist")
    location: str = Field(default="", title="Region", description="blank: the resource group's")
    gpu: Literal["A100", "T4", "dedicated-A100", "none"] = Field(
        default="A100", title="GPU", description="none: CPU only, for a cheap trial of all steps"
    )
    engine: Literal["transformers", "vllm"] = Field(
        default="transformers", description="the program that generates text"
    )
    quantization: Literal["none", "nf4"] = Field(default="none", description="nf4 needs a GPU")
    base_model: str = Field(
        default="",
        description="folder or name of the base model, to check its memory and loading time",
    )
    min_replicas: int = Field(
        default=0, ge=0, le=30, title="Minimum replicas", description="0: nothing runs without requests"
    )
    max_replicas: int = Field(
        default=1, ge=1, le=30, title="Maximum replicas", description="each needs a GPU"
    )
    allowed_ip_ranges: tuple[str, ...] = Field(
        default=(), title="Allowed addresses", description="such as 203.0.113.0/24; none: all addresses"
    )
    register_providers: bool = Field(
        default=False, description="register missing resource providers in the subscription"
    )
    remember: bool = Field(
        default=False,
        title="Remember names",
        description="write the chosen values to infra/provision/inference.parameters.json",
    )
    storage_account: str = Field(default="", description=_DEFAULT)
    file_share: str = Field(default="", description=_DEFAULT)
    environment_name: str = Field(default="", title="Environment", description=_DEFAULT)
    environment_storage: str = Field(default="", description=_DEFAULT)
    app: str = Field(default="", title="Container app", description=_DEFAULT)
    log_analytics: str = Field(default="", title="Log Analytics", description=_DEFAULT)
    workload_profile: str = Field(
        default="", description="name of a profile in an existing environment; blank: one of the GPU's type"
    )
    image: str = Field(default="", title="Container image", description="blank: the engine's pinned image")
    registry_server: str = Field(default="", description="of a private image, such as mine.azurecr.io")
    registry_username: str = Field(default="")
    registry_password: SecretStr | None = Field(default=None, description="kept in the app's secrets")
    registry_identity: str = Field(
        default="", description="instead of a password: a managed identity's resource id"
    )
    concurrent_requests: int = Field(
        default=4, ge=1, le=1000, description="open requests per replica before another one starts"
    )
    cooldown: int = Field(
        default=900, ge=30, le=86_400, description="idle seconds before the last replica ends"
    )
    termination_grace: int = Field(
        default=60, ge=40, le=600, description="seconds for open requests when a replica ends"
    )
    environment_variables: dict[str, str] = Field(
        default={}, description="further variables of the container; no secrets"
    )
    secrets: tuple[str, ...] = Field(
        default=(), description="environment variables of this kernel that become secrets, such as HF_TOKEN"
    )
    hf_token: SecretStr | None = Field(
        default=None, title="Hugging Face token", description="kept in the app's secrets as hf-token"
    )
    tags: dict[str, str] = Field(default={}, description="tags of the created resources")
    commands: tuple[str, ...] = Field(
        default=(),
        title="Start commands",
        description="of a custom server; nbtoolkit's server does not use them",
    )

    @classmethod
    def for_workspace(cls, workspace: Workspace | None = None) -> ProvisionSettings:
        """Return the settings of the workspace's files, with defaults for the rest.

        Raises :class:`BrokenFile` naming file and line.
        """
        return cls().completed(workspace or Workspace.find())

    def completed(self, workspace: Workspace) -> ProvisionSettings:
        """Return the settings with blank values taken from the workspace's files; idempotent."""
        found = read_saved(workspace)
        blank = {
            name for name in found if name not in self.model_fields_set or getattr(self, name) in ("", None)
        }
        return self.with_values(**{name: found[name] for name in blank})

    def resource_names(self, group_id: str = "") -> ResourceNames:
        """Return the chosen name of each resource, else the AI Toolkit's default.

        ``group_id`` is the id of an existing resource group as Azure spells it: the defaults depend on it.
        """
        parts = group_id.split("/")
        subscription, group = (parts[2], parts[4]) if group_id else (self.subscription, self.resource_group)
        chosen = {name.removesuffix("_name"): getattr(self, name) for name in NAMES}
        return ResourceNames.derive(subscription, group, **chosen)

    def with_values(self, **values: Any) -> ProvisionSettings:
        """Return the settings with some values replaced and validated; the other unset fields stay unset."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | values)

    def without(self, names: Iterable[str]) -> ProvisionSettings:
        """Return the settings with some fields unset."""
        kept = self.model_fields_set - set(names)
        return type(self)(**{name: getattr(self, name) for name in kept})

    @field_validator("location")
    @classmethod
    def _normalize_region(cls, value: str) -> str:
        listed = re.search(r"\((\w+)\)", value)  # the form's list shows "West US 3 (westus3): 1 × A100"
        return "".join((listed[1] if listed else value).split()).lower()

    @field_validator("subscription")
    @classmethod
    def _normalize_id(cls, value: str) -> str:
        listed = re.search(r"\(([0-9a-fA-F-]{36})\)", value)  # the form's list shows "My team (id)"
        return (listed[1] if listed else value.strip()).lower()  # default names depend on the case

    @field_validator("resource_group", "image", "registry_server", "app", mode="after")
    @classmethod
    def _strip(cls, value: str) -> str:
        return value.strip()

    @field_validator("allowed_ip_ranges")
    @classmethod
    def _validate_ranges(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ipaddress.ip_network(part.strip(), strict=False)) for part in value)
        except ValueError as error:
            raise ValueError(f"{error}; write 203.0.113.7 or 203.0.113.0/24") from None


def read_saved(workspace: Workspace) -> dict[str, Any]:
    """Return setting → value for each setting that a file holds.

    In order of precedence: the inference step's parameter file, its last provision, the fine-tuning step's
    provision, and that step's parameter file. Raises :class:`InvalidSettings` if a file cannot be read.
    """
    infra = InfraFiles(workspace)
    fine_tuning = {name: PARAMETERS[name] for name in (*_FINE_TUNING, "log_analytics")}
    layers = [
        _values(infra.finetuning_parameters, fine_tuning),
        _values(infra.finetuning_config, _CONFIG_KEYS),
        _values(infra.inference_config, {**_CONFIG_KEYS, "app": "ACA_APP_NAME"}),
        _values(infra.find_inference_parameters(), PARAMETERS),
    ]
    return {name: value for layer in layers for name, value in layer.items()}


def write_saved(workspace: Workspace, values: Mapping[str, Any]) -> bool:
    """Write settings to the inference step's parameter file and keep its other content.

    Creates a missing file. Returns whether anything changed.
    """
    file = InfraFiles(workspace).find_inference_parameters()
    for name, value in values.items():
        file.set(PARAMETERS[name], list(value) if isinstance(value, tuple) else value)
    return file.save()


def _values(file: InfraFile, keys: Mapping[str, str]) -> dict[str, Any]:
    found = {name: file.get(key) for name, key in keys.items()}
    return {name: value for name, value in found.items() if value is not None}
