"""Validate settings without a request: names, contradictions and known limits of engines and GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nbtoolkit.azure.container_apps.managed_app import OTHER_ENGINE
from nbtoolkit.errors import Blocked
from nbtoolkit.provisioning.settings import ProvisionSettings

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PWD|CREDENTIALS?|SAS)(_|$)", re.IGNORECASE)

_NAME_RULES = {
    "resource_group": (r"[\w()][\w().-]{0,88}[\w()-]|[\w()-]", "1 to 90 letters, digits, _ - . ( )"),
    "storage_account": (r"[a-z0-9]{3,24}", "3 to 24 lower-case letters and digits"),
    "file_share": (r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", "3 to 63 lower-case letters, digits and -"),
    "environment_name": (r"[a-z][a-z0-9-]{0,58}[a-z0-9]", "2 to 60 lower-case letters, digits and -"),
    "environment_storage": (r"[a-z0-9][a-z0-9-]{0,30}[a-z0-9]", "2 to 32 lower-case letters, digits and -"),
    "app": (
        r"(?!.*--)[a-z][a-z0-9-]{0,30}[a-z0-9]",
        "2 to 32 lower-case letters, digits and -, starting with a letter",
    ),
    "log_analytics": (r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]", "4 to 63 letters, digits and -"),
}
"""Setting → pattern of a valid name, and the rule in words."""


def blockers(settings: ProvisionSettings) -> list[str]:
    """Return why these settings cannot be provisioned, each with the next step; no request."""
    return [
        *_invalid_names(settings),
        *_hardware_conflicts(settings),
        *_registry_conflicts(settings),
        *_invalid_variables(settings),
    ]


def raise_if_blocked(sentences: Iterable[str]) -> None:
    """Raise :class:`Blocked` with all blockers if there is one."""
    if found := tuple(sentences):
        raise Blocked(
            "Nothing was written to Azure. Blockers:" + "".join(f"\n  - {one}" for one in found),
            next_step="remove each blocker and run the step again",
            blockers=found,
        )


def engine_warnings(settings: ProvisionSettings) -> list[str]:
    """Return the known limits of the chosen engine on the chosen GPU."""
    warnings = {
        "vLLM does not start with every image on a T4 (its FlashInfer kernels need a compiler there): if "
        "it fails, choose the transformers engine, or the GPU A100.": settings.gpu == "T4",
        "vLLM's image is larger than 8 GB: Container Apps may show no console logs for it, and it starts "
        "more slowly. The startup timeline does not depend on console logs.": not settings.image,
    }
    return [one for one, applies in warnings.items() if applies and settings.engine == "vllm"]


def _invalid_names(settings: ProvisionSettings) -> list[str]:
    sentences: list[str] = []
    if not settings.subscription:
        sentences.append("No subscription is chosen: choose one, or enter its id.")
    elif not _GUID.fullmatch(settings.subscription):
        sentences.append(f"subscription is {settings.subscription!r}: enter its id, not its name.")
    if not settings.resource_group:
        sentences.append(
            "No resource group is chosen: choose one, or name a new one and set create_resource_group."
        )
    if settings.create_resource_group and not settings.location:
        sentences.append("A new resource group needs a region: set location.")
    for name, (pattern, rule) in _NAME_RULES.items():
        value = str(getattr(settings, name))
        if value and not re.fullmatch(pattern, value):
            sentences.append(f"{name} is {value!r}: Azure requires {rule}.")
    return sentences


def _hardware_conflicts(settings: ProvisionSettings) -> list[str]:
    is_vllm, without_gpu = settings.engine == "vllm", settings.gpu == "none"
    conflicts = {
        f"min_replicas is {settings.min_replicas} and max_replicas is {settings.max_replicas}: the "
        "minimum must not exceed the maximum.": settings.min_replicas > settings.max_replicas,
        "vLLM needs a GPU here: choose one, or the transformers engine.": without_gpu and is_vllm,
        f"engine is 'vllm' without start commands. {OTHER_ENGINE}": is_vllm and not settings.commands,
        "nf4 needs a GPU: choose one, or no quantization.": without_gpu and settings.quantization == "nf4",
    }
    return [sentence for sentence, applies in conflicts.items() if applies]


def _registry_conflicts(settings: ProvisionSettings) -> list[str]:
    password = settings.registry_password is not None
    if (
        settings.registry_username or password or settings.registry_identity
    ) and not settings.registry_server:
        return ["A registry's user or identity is set without the registry: set registry_server."]
    if bool(settings.registry_username) != password:
        return ["A registry needs user name and password together, or an identity instead."]
    if password and settings.registry_identity:
        return ["A registry accepts a password or an identity, not both."]
    return []


def _invalid_variables(settings: ProvisionSettings) -> list[str]:
    invalid = [
        f"{name!r} is not a valid name of an environment variable."
        for name in (*settings.environment_variables, *settings.secrets)
        if not _VARIABLE.fullmatch(name)
    ]
    return invalid + [
        f"{name} looks like a secret, and everyone with access to the app can read its environment: "
        "set it in this kernel and add its name to secrets."
        for name in settings.environment_variables
        if _SECRET_NAME.search(name)
    ]
