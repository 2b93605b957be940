"""The Azure SDK: lazy imports, settings of all its clients, the Retry-After header."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any

from nbtoolkit._version import __version__
from nbtoolkit.errors import MissingDependency
from nbtoolkit.installation import install_hint

ARM_SCOPE = "https://management.azure.com/.default"
USER_AGENT = f"nbtoolkit/{__version__}"
"""User-Agent of all requests, so that Azure's logs name this toolkit."""
POLL_INTERVAL = 2.0
"""Seconds between two polls of a long-running operation if Azure sends no Retry-After."""
CONNECT_TIMEOUT, READ_TIMEOUT = 20, 60
"""Seconds until a host that does not answer counts as lost; the SDK's default is 300 for both."""


def import_from(module: str, name: str) -> Any:
    """Return an attribute of a module of the Azure SDK, or of a module that imports the SDK.

    Raises :class:`MissingDependency` if the SDK is not installed.
    """
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise MissingDependency(
            f"{module} cannot be imported: {error}.",
            next_step=install_hint("azure"),
            package=module,
        ) from error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the Retry-After header, a number or a date, in seconds; None if it is missing or invalid."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_until(text)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _seconds_until(text: str) -> float:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return math.nan
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
