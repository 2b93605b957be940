"""Where a deployment stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RUNNING = ("Accepted", "Created", "Creating", "NotSpecified", "Ready", "Running", "Updating", "Deleting")


@dataclass(frozen=True)
class State:
    """Where a deployment stands: ``status`` in Azure's words, and what it gave or why it failed.

    The names of ``outputs`` are in capitals.
    """

    status: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: Mapping[str, Any] | None = None

    @property
    def running(self) -> bool:
        """Tell whether Azure still works on it."""
        return self.status in RUNNING

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> State:
        """Read Azure's description of a deployment."""
        properties: Mapping[str, Any] = body.get("properties") or {}
        # Azure returns a name like STORAGE_ID as storagE_ID
        outputs = {key.upper(): one.get("value") for key, one in (properties.get("outputs") or {}).items()}
        status = str(properties.get("provisioningState") or "Running")
        return cls(status, body.get("tags") or {}, outputs, properties.get("error"))
