"""The keys of the AI Toolkit's files, in its order, and the type of each value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nbtoolkit.errors import InvalidSettings


class ValueKind(NamedTuple):
    """A type of values, to which null is always added; ``label`` is used in messages."""

    label: str
    accepts: Callable[[Any], bool]

    def __str__(self) -> str:
        return self.label

    def fits(self, value: Any) -> bool:
        """Return whether a value has this type or is null."""
        return value is None or self.accepts(value)


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(entry, kind) for entry in value)


def _choice(*names: str) -> ValueKind:
    return ValueKind(f"one of {', '.join(names)}", lambda value: value in names)


Kinds = Mapping[str, ValueKind]
"""Key → type of its value."""

TEXT = ValueKind("a text", lambda value: isinstance(value, str))
TEXTS = ValueKind("a list of texts", _is_list_of(str))
TEXTS_BY_NAME = ValueKind(
    "an object of texts",
    lambda value: isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values()),
)
OBJECT = ValueKind("an object", lambda value: isinstance(value, dict))
OBJECTS = ValueKind("a list of objects", _is_list_of(dict))
COUNT = ValueKind("a whole number above 0", lambda value: type(value) is int and value > 0)
AMOUNT = ValueKind("a whole number, 0 or above", lambda value: type(value) is int and value >= 0)
FLAG = ValueKind("true or false", lambda value: isinstance(value, bool))

_SHARED = ("SUBSCRIPTION_ID", "RESOURCE_GROUP_NAME", "STORAGE_ACCOUNT_NAME", "FILE_SHARE_NAME")
INFERENCE_CONFIG: Kinds = dict.fromkeys((*_SHARED, "ACA_APP_NAME", "ACA_APP_ENDPOINT"), TEXT)
FINETUNING_CONFIG: Kinds = {**dict.fromkeys((*_SHARED, "ACA_JOB_NAME"), TEXT), "COMMANDS": TEXTS}
_RESOURCES = (
    "location",
    "storageAccountName",
    "fileShareName",
    "acaEnvironmentName",
    "acaEnvironmentStorageName",
)
INFERENCE_PARAMETERS: Kinds = {
    "defaultCommands": TEXTS,
    "maximumInstanceCount": COUNT,
    **dict.fromkeys((*_RESOURCES, "acaAppName", "acaLogAnalyticsName"), TEXT),
    # parameters of nbtoolkit: the template of the AI Toolkit does not have them
    "gpu": _choice("A100", "T4", "dedicated-A100", "none"),
    "workloadProfileName": TEXT,
    "engine": _choice("transformers", "vllm"),
    "quantization": _choice("none", "nf4"),
    "baseModel": TEXT,
    "containerImage": TEXT,
    **dict.fromkeys(
        ("registryServer", "registryUsername", "registryPasswordSecret", "registryIdentity"), TEXT
    ),
    "minimumInstanceCount": AMOUNT,
    "concurrentRequests": COUNT,
    "cooldownSeconds": AMOUNT,
    "terminationGraceSeconds": COUNT,
    "environmentVariables": TEXTS_BY_NAME,
    "secretNames": TEXTS,
    "allowedIpRanges": TEXTS,
    "deniedIpRanges": TEXTS,
    "ingress": OBJECT,
    "maxInactiveRevisions": AMOUNT,
    "customDomains": OBJECTS,
    "tags": TEXTS_BY_NAME,
    "createdBy": TEXT,
    "revisionSuffix": TEXT,
    **dict.fromkeys(
        (
            "createStorage",
            "createFileShare",
            "createWorkspace",
            "createEnvironment",
            "createEnvironmentStorage",
        ),
        FLAG,
    ),
}
"""The parameters of ``inference.bicep`` except ``secrets``, which are never written to a file."""
FINETUNING_PARAMETERS: Kinds = {
    "defaultCommands": TEXTS,
    "maximumInstanceCount": COUNT,
    "timeout": COUNT,
    **dict.fromkeys((*_RESOURCES, "acaJobName", "acaLogAnalyticsName"), TEXT),
}

_SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#"


def new_file(kinds: Kinds, *, nested: bool) -> str:
    """Return the text of a config file, or of a ``nested`` parameter file, in which every value is null."""
    parameters = {key: {"value": None} for key in kinds}
    content = {"$schema": _SCHEMA, "contentVersion": "1.0.0.0", "parameters": parameters}
    return json.dumps(content if nested else dict.fromkeys(kinds), indent=2)


def endpoint_url(value: str) -> str:
    """Return an endpoint as a URL without a trailing slash; ``https://`` is added if it is missing.

    Raises :class:`InvalidSettings` if it is not an address.
    """
    text = value.strip().rstrip("/")
    url = text if "://" in text else f"https://{text}"
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d+)?(/[^\s?#]*)?", url):
        raise InvalidSettings(
            f"ACA_APP_ENDPOINT is {value!r}, which is not an address.",
            next_step="write it as app.region.azurecontainerapps.io, with or without https://",
        )
    return url
