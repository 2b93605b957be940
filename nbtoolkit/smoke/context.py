"""What the static checks look at: the adapter's folder, as far as it can be read, and the base."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nbtoolkit.errors import InvalidAdapter
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.smoke.settings import SmokeSettings


@dataclass(frozen=True)
class Subject:
    """One adapter folder on one base, under settings."""

    folder: Path
    base: Base
    settings: SmokeSettings

    @cached_property
    def read(self) -> Adapter | InvalidAdapter:
        """The adapter, or why it cannot be read."""
        try:
            return Adapter.read(self.folder)
        except InvalidAdapter as error:
            return error

    @property
    def adapter(self) -> Adapter:
        """The adapter; raises :class:`InvalidAdapter` where it cannot be read, which is check A1's news."""
        if isinstance(self.read, InvalidAdapter):
            raise self.read
        return self.read

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """What ``adapter_config.json`` says, None where that is no JSON object; A1 tells why."""
        try:
            content = json.loads((self.folder / "adapter_config.json").read_bytes())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None
