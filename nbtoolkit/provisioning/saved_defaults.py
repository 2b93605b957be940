"""What the workspace's files have chosen already: fine-tuning's, the parameter file's, and the last run's."""

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
_PLACES = {
    "subscription": "SUBSCRIPTION_ID",
    "resource_group": "RESOURCE_GROUP_NAME",
    "storage_account": "STORAGE_ACCOUNT_NAME",
    "file_share": "FILE_SHARE_NAME",
}


def of(workspace: Workspace) -> dict[str, Any]:
    """Return setting → value for all that a file names, the nearest file first.

    That is the inference step's parameter file, what it provisioned last, what fine-tuning provisioned, and
    the parameters of that. Raises :class:`InvalidSettings` where a file cannot be read.
    """
    infra = InfraFiles(workspace)
    tuning = {name: PARAMETERS[name] for name in (*_FINE_TUNING, "log_analytics")}
    layers = [
        _read(infra.finetuning_parameters, tuning),
        _read(infra.finetuning_config, _PLACES),
        _read(infra.inference_config, {**_PLACES, "app": "ACA_APP_NAME"}),
        _read(infra.inference_parameters, PARAMETERS) if has_parameters(workspace) else {},
    ]
    return {name: value for layer in layers for name, value in layer.items()}


def remember(workspace: Workspace, values: Mapping[str, Any]) -> bool:
    """Write settings into the inference step's parameter file, the rest left as it is; tell what changed.

    The file is created where it is missing.
    """
    infra = InfraFiles(workspace)
    file = infra.inference_parameters if has_parameters(workspace) else infra.create_inference_parameters()
    for name, value in values.items():
        file.set(PARAMETERS[name], list(value) if isinstance(value, tuple) else value)
    return file.save()


def has_parameters(workspace: Workspace) -> bool:
    """Tell whether there is a parameter file, in either of its two places."""
    places = ("infra/provision/inference.parameters.json", "infra/inference.parameters.json")
    return any(workspace.path(place).exists() for place in places)


def _read(file: InfraFile, keys: Mapping[str, str]) -> dict[str, Any]:
    found = {name: file.get(key) for name, key in keys.items()}
    return {name: value for name, value in found.items() if value is not None}
