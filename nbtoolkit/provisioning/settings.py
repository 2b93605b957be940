"""The settings of a provision: what shall exist on Azure, under which names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.provisioning import saved_defaults as choices
from nbtoolkit.settings import Settings
from nbtoolkit.workspace import Workspace

_DERIVED = "blank: the workspace's parameter file or fine-tuning step, else a derived name"


class Consent(Settings):
    """The parameter of a notebook that lets its costly step do its work instead of only planning it."""

    apply: bool = Field(default=False, description="create what costs money, not only plan it")


class ProvisionSettings(Settings):
    """Where on Azure, on which machine and under which names the inference app runs.

    What is left blank comes from ``infra/inference.parameters.json``, the files of the fine-tuning step, or
    is derived as the AI Toolkit derives it. Secrets are named, never written here: ``secrets`` are names of
    environment variables of this kernel; what a form takes is masked.
    """

    subscription: str = Field(default="", description="its id; blank: that of the fine-tuning step")
    resource_group: str = Field(default="", description="blank: that of the fine-tuning step")
    allow_downtime: bool = Field(
        default=False,
        description="stop the app for a change where there is no GPU for old and new at once",
    )
    create_resource_group: bool = Field(default=False, description="create the group where it is missing")
    location: str = Field(default="", title="Region", description="blank: the resource group's")
    gpu: Literal["A100", "T4", "dedicated-A100", "none"] = Field(
        default="A100", title="GPU", description="none: CPU only, for a cheap trial of the whole way"
    )
    engine: Literal["transformers", "vllm"] = Field(default="transformers", description="what generates text")
    quantization: Literal["none", "nf4"] = Field(default="none", description="nf4 needs a GPU")
    base_model: str = Field(
        default="",
        description="folder or name of the base model; tells whether it fits and how long it loads",
    )
    min_replicas: int = Field(
        default=0, ge=0, le=30, title="Replicas, at least", description="0: nothing runs, or costs, at rest"
    )
    max_replicas: int = Field(
        default=1, ge=1, le=30, title="Replicas, at most", description="each needs a GPU"
    )
    allowed_ip_ranges: tuple[str, ...] = Field(
        default=(), title="Allowed addresses", description="such as 203.0.113.0/24; none: from everywhere"
    )
    register_providers: bool = Field(
        default=False, description="register missing resource providers in the subscription"
    )
    remember: bool = Field(
        default=False,
        title="Remember names",
        description="write what is chosen here into infra/provision/inference.parameters.json",
    )
    storage_account: str = Field(default="", description=_DERIVED)
    file_share: str = Field(default="", description=_DERIVED)
    environment_name: str = Field(default="", title="Environment", description=_DERIVED)
    environment_storage: str = Field(default="", description=_DERIVED)
    app: str = Field(default="", title="Container app", description=_DERIVED)
    log_analytics: str = Field(default="", title="Log Analytics", description=_DERIVED)
    workload_profile: str = Field(
        default="", description="an existing environment's profile by name; blank: one that fits is found"
    )
    image: str = Field(default="", title="Container image", description="blank: the engine's pinned image")
    registry_server: str = Field(default="", description="of a private image, such as mine.azurecr.io")
    registry_username: str = Field(default="")
    registry_password: SecretStr | None = Field(default=None, description="kept in the app's secrets")
    registry_identity: str = Field(
        default="", description="instead of a password: a managed identity's resource id"
    )
    concurrent_requests: int = Field(
        default=4, ge=1, le=1000, description="requests a replica takes before another one starts"
    )
    cooldown: int = Field(
        default=900, ge=30, le=86_400, description="idle seconds before the last replica ends"
    )
    termination_grace: int = Field(
        default=60, ge=40, le=600, description="seconds for open answers when a replica ends"
    )
    environment_variables: dict[str, str] = Field(
        default={}, description="more for the container; no secrets"
    )
    secrets: tuple[str, ...] = Field(
        default=(), description="environment variables of this kernel that become secrets, such as HF_TOKEN"
    )
    hf_token: SecretStr | None = Field(
        default=None, title="Hugging Face token", description="kept in the app's secrets as hf-token"
    )
    tags: dict[str, str] = Field(default={}, description="for what is created")
    commands: tuple[str, ...] = Field(
        default=(), title="Start commands", description="of your own server; with ours they are not used"
    )

    @classmethod
    def for_workspace(cls, workspace: Workspace | None = None) -> ProvisionSettings:
        """Return the settings that the workspace's files stand for, the rest as it is by default.

        Raises :class:`BrokenFile` naming file and line.
        """
        return cls().completed(workspace or Workspace.find())

    def completed(self, workspace: Workspace) -> ProvisionSettings:
        """Return the settings with what is blank taken from the workspace's files; again changes nothing."""
        found = choices.of(workspace)
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
        return ResourceNames.derive(
            subscription,
            group,
            storage_account=self.storage_account,
            file_share=self.file_share,
            environment=self.environment_name,
            environment_storage=self.environment_storage,
            app=self.app,
            log_analytics=self.log_analytics,
        )

    def with_values(self, **values: Any) -> ProvisionSettings:
        """Return the settings with some of them changed, checked again; what nobody chose stays so."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | values)

    def without(self, names: Iterable[str]) -> ProvisionSettings:
        """Return the settings with some of them not chosen."""
        kept = self.model_fields_set - set(names)
        return type(self)(**{name: getattr(self, name) for name in kept})

    @field_validator("location")
    @classmethod
    def _plain_region(cls, value: str) -> str:
        listed = re.search(r"\((\w+)\)", value)  # as the list shows it: "West US 3 (westus3): 1 × A100"
        return "".join((listed[1] if listed else value).split()).lower()

    @field_validator("subscription")
    @classmethod
    def _plain_id(cls, value: str) -> str:
        listed = re.search(r"\(([0-9a-fA-F-]{36})\)", value)  # as the list shows it: "My team (id)"
        return (listed[1] if listed else value.strip()).lower()  # derived names depend on the case

    @field_validator("resource_group", "image", "registry_server", "app", mode="after")
    @classmethod
    def _stripped(cls, value: str) -> str:
        return value.strip()

    @field_validator("allowed_ip_ranges")
    @classmethod
    def _are_ranges(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ipaddress.ip_network(part.strip(), strict=False)) for part in value)
        except ValueError as error:
            raise ValueError(f"{error}; write 203.0.113.7 or 203.0.113.0/24") from None
