"""What is wrong with settings before anybody asks Azure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nbtoolkit.azure.container_apps.managed_app import OTHER_ENGINE

if TYPE_CHECKING:
    from nbtoolkit.provisioning.settings import ProvisionSettings

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRETIVE = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PWD|CREDENTIALS?|SAS)(_|$)", re.IGNORECASE)

_NAMES = {
    "resource_group": (r"[\w()][\w().-]{0,88}[\w()-]|[\w()-]", "1 to 90 letters, digits, _ - . ( )"),
    "storage_account": (r"[a-z0-9]{3,24}", "3 to 24 lower-case letters and digits"),
    "file_share": (r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", "3 to 63 lower-case letters, digits and -"),
    "environment_name": (r"[a-z][a-z0-9-]{0,58}[a-z0-9]", "2 to 60 lower-case letters, digits and -"),
    "environment_storage": (r"[a-z0-9][a-z0-9-]{0,30}[a-z0-9]", "2 to 32 lower-case letters, digits and -"),
    "app": (
        r"(?!.*--)[a-z][a-z0-9-]{0,30}[a-z0-9]",
        "2 to 32 lower-case letters, digits and -, from a letter",
    ),
    "log_analytics": (r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]", "4 to 63 letters, digits and -"),
}


def blockers(settings: ProvisionSettings) -> list[str]:
    """Return what keeps these settings from being provisioned, each with what to do; asks nobody."""
    return [*_places(settings), *_machine(settings), *_registry(settings), *_variables(settings)]


def _places(settings: ProvisionSettings) -> list[str]:
    sentences: list[str] = []
    if not settings.subscription:
        sentences.append("No subscription is chosen: pick one, or write its id.")
    elif not _GUID.fullmatch(settings.subscription):
        sentences.append(f"subscription is {settings.subscription!r}: its id is wanted, not its name.")
    if not settings.resource_group:
        sentences.append("No resource group is chosen: pick one, or name one and tick that it is created.")
    if settings.create_resource_group and not settings.location:
        sentences.append("A new resource group needs a region: choose one.")
    for name, (pattern, rule) in _NAMES.items():
        value = str(getattr(settings, name))
        if value and not re.fullmatch(pattern, value):
            sentences.append(f"{name} is {value!r}: Azure wants {rule}.")
    return sentences


def _machine(settings: ProvisionSettings) -> list[str]:
    sentences: list[str] = []
    if settings.min_replicas > settings.max_replicas:
        sentences.append(
            f"At least {settings.min_replicas} replicas and at most {settings.max_replicas} contradict."
        )
    if settings.gpu == "none" and settings.engine == "vllm":
        sentences.append("vLLM needs a GPU here: choose one, or the transformers engine.")
    if settings.engine == "vllm" and not settings.commands:
        sentences.append(f"engine is 'vllm' without start commands. {OTHER_ENGINE}")
    if settings.gpu == "none" and settings.quantization == "nf4":
        sentences.append("nf4 needs a GPU: choose one, or no quantization.")
    return sentences


def _registry(settings: ProvisionSettings) -> list[str]:
    password = settings.registry_password is not None
    if (
        settings.registry_username or password or settings.registry_identity
    ) and not settings.registry_server:
        return ["A registry's user or identity is set without the registry: set registry_server."]
    if bool(settings.registry_username) != password:
        return ["A registry needs user name and password together, or an identity instead."]
    if password and settings.registry_identity:
        return ["A registry takes a password or an identity, not both."]
    return []


def _variables(settings: ProvisionSettings) -> list[str]:
    sentences: list[str] = []
    for name in (*settings.environment_variables, *settings.secrets):
        if not _VARIABLE.fullmatch(name):
            sentences.append(f"{name!r} is no name of an environment variable.")
    for name in settings.environment_variables:
        if _SECRETIVE.search(name):
            sentences.append(
                f"{name} looks like a secret, and everybody who sees the app can read its environment: "
                "set it in this kernel and name it in secrets."
            )
    return sentences
