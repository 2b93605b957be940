"""Read and write the settings that the workspace's infra files hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbtoolkit.infra_files import InfraFile, InfraFiles
from nbtoolkit.workspace import Workspace

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


def read(workspace: Workspace) -> dict[str, Any]:
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


def write(workspace: Workspace, values: Mapping[str, Any]) -> bool:
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
