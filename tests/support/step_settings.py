"""Settings of steps, for tests of settings and of notebook parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.settings import Settings

SECRET = "canary-7f3a"


class Inner(Settings):
    depth: int = 1


class Step(Settings):
    """Settings of a step such as a deploy."""

    adapters: dict[str, Path] = Field(default_factory=dict)
    base: str | None = None
    length: int = Field(default=64, ge=16, description="tokens")
    ratio: float = 0.5
    quantization: Literal["none", "nf4"] = "none"
    keep: bool | None = None
    api_key: SecretStr | None = None
    inner: Inner = Inner()

    @field_validator("adapters", mode="before")
    @classmethod
    def _by_folder_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {Path(value).name: value}
        if value == []:
            raise InvalidSettings("an empty list serves no adapter", next_step="name one")
        return value


class Required(Settings):
    base: str


class Other(Settings):
    target: str = "local"
