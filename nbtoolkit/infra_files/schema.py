"""Which keys the AI Toolkit's files have, in its order, and what may stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nbtoolkit.errors import InvalidSettings

Kinds = Mapping[str, str]
"""Key → what may stand there, besides null."""

TEXT, COMMANDS, COUNT = "a text", "a list of texts", "a whole number above 0"

INFERENCE_CONFIG: Kinds = dict.fromkeys(
    (
        "SUBSCRIPTION_ID",
        "RESOURCE_GROUP_NAME",
        "STORAGE_ACCOUNT_NAME",
        "FILE_SHARE_NAME",
        "ACA_APP_NAME",
        "ACA_APP_ENDPOINT",
    ),
    TEXT,
)
FINETUNING_CONFIG: Kinds = {
    **dict.fromkeys(
        ("SUBSCRIPTION_ID", "RESOURCE_GROUP_NAME", "STORAGE_ACCOUNT_NAME", "FILE_SHARE_NAME", "ACA_JOB_NAME"),
        TEXT,
    ),
    "COMMANDS": COMMANDS,
}
_RESOURCES = (
    "location",
    "storageAccountName",
    "fileShareName",
    "acaEnvironmentName",
    "acaEnvironmentStorageName",
)
INFERENCE_PARAMETERS: Kinds = {
    "defaultCommands": COMMANDS,
    "maximumInstanceCount": COUNT,
    **dict.fromkeys((*_RESOURCES, "acaAppName", "acaLogAnalyticsName"), TEXT),
}
FINETUNING_PARAMETERS: Kinds = {
    "defaultCommands": COMMANDS,
    "maximumInstanceCount": COUNT,
    "timeout": COUNT,
    **dict.fromkeys((*_RESOURCES, "acaJobName", "acaLogAnalyticsName"), TEXT),
}

_SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#"


def fits(kind: str, value: Any) -> bool:
    """Tell whether a value may stand where ``kind`` is wanted; null always may."""
    if value is None:
        return True
    if kind == TEXT:
        return isinstance(value, str)
    if kind == COUNT:
        return type(value) is int and value > 0
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def new_config(kinds: Kinds) -> str:
    """Return the text of a config file in which nothing is chosen."""
    return json.dumps(dict.fromkeys(kinds), indent=2)


def new_parameters(kinds: Kinds) -> str:
    """Return the text of a parameter file in which nothing is chosen: every value is null."""
    parameters = {key: {"value": None} for key in kinds}
    return json.dumps({"$schema": _SCHEMA, "contentVersion": "1.0.0.0", "parameters": parameters}, indent=2)


def endpoint_url(value: str) -> str:
    """Return an endpoint as a URL without a slash at its end; ``https://`` is added where it is missing.

    Raises :class:`InvalidSettings` for what is no address.
    """
    text = value.strip().rstrip("/")
    url = text if "://" in text else f"https://{text}"
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d+)?(/[^\s?#]*)?", url):
        raise InvalidSettings(
            f"ACA_APP_ENDPOINT is {value!r}, which is no address.",
            next_step="write it as app.region.azurecontainerapps.io, with or without https://",
            value=value,
        )
    return url
