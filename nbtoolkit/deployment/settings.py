"""The settings of a deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from nbtoolkit.models.folder_names import public_name
from nbtoolkit.models.hub import HubName, ModelPath
from nbtoolkit.serving.release import EngineSettings
from nbtoolkit.settings import Settings
from nbtoolkit.smoke.settings import SmokeSettings


class DeploySettings(Settings):
    """What to deploy, how to serve it, and where; relative paths start at the workspace.

    ``adapters`` takes one folder, a list of folders, or public name → folder; without names the folders'
    own names are public. A path that begins with ``/mount/`` is on the share and is served from there;
    ``org/name@revision`` or a URL of the hub is downloaded at that commit, unless a folder has that name.

    >>> settings = DeploySettings(adapters=["adapters/tone"], base="models/base", target="azure")
    >>> list(settings.adapters), settings.dtype
    (['tone'], 'auto')
    """

    adapters: dict[str, ModelPath] = Field(
        default={},
        description="LoRA folders by public name; org/name@revision: on the hub; /mount/…: on the share",
    )
    base: str = Field(
        default="",
        title="Base model",
        description="base model: a folder, organisation/name of the hub, or /mount/… on the share",
    )
    target: Literal["local", "azure"] = Field(
        default="local", description="local: this machine; azure: what infra/inference.config.json names"
    )
    server: Literal["nbtoolkit", "own"] = Field(
        default="nbtoolkit",
        description="own: the workspace's inference/ and its start commands; every deploy restarts it",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", title="Precision", description="precision of the weights"
    )
    quantization: Literal["none", "nf4"] = Field(default="none", description="nf4 needs a CUDA GPU")
    max_model_len: int | None = Field(
        default=None,
        title="Longest sequence",
        ge=16,
        description="longest prompt and answer together, in tokens",
    )
    max_concurrency: int = Field(
        default=16, title="Answers at once", ge=1, le=256, description="answers decoded at once"
    )
    max_queue: int = Field(
        default=64, title="Queue", ge=0, description="requests that wait; further ones get status 429"
    )
    report: str | None = Field(
        default=None,
        title="Smoke report",
        description="smoke report to rely on; by default the newest of these bytes",
    )
    override_reason: str | None = Field(
        default=None,
        title="Reason to override",
        description="why to deploy without a green smoke report; kept in the release",
    )
    own_port: int | None = Field(
        default=None,
        title="Own server's port",
        ge=1,
        le=65535,
        description="port of your own server, if its code fixes one",
    )
    allow_downtime: bool = Field(
        default=False,
        description="Azure: stop the running server first if there is no GPU for a second one",
    )
    wheels_lock: str | None = Field(
        default=None,
        title="Packages",
        description="Azure: lock of the container's packages; ours by default, none: the image has them all",
    )
    keep: bool | None = Field(
        default=None,
        title="Keep serving",
        description="keep serving when the notebook ends; by default unless it runs headless",
    )
    timeout: float = Field(default=1800, gt=0, description="seconds for the server to become healthy")

    @field_validator("adapters", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, (str, Path)):
            value = [value] if str(value).strip() else []
        if not isinstance(value, (list, tuple)):
            return value
        named: dict[str, str] = {}
        for item in value:
            if not isinstance(item, (str, Path)):
                raise ValueError(f"every entry must be a folder, not {item!r}")
            hub = HubName.parse(str(item))
            name = public_name(hub.name if hub else Path(item).expanduser())
            if name in named:
                raise ValueError(
                    f"the folders {named[name]!r} and {str(item)!r} have the same name; "
                    "give them public names, as in {'one': 'a/adapter', 'two': 'b/adapter'}"
                )
            named[name] = str(item)
        return named

    @field_validator("override_reason", "report", mode="after")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value.strip() or None if value else None

    @model_validator(mode="after")
    def _complete(self) -> DeploySettings:
        if self.server == "nbtoolkit":
            if not self.adapters:
                raise ValueError("adapters is empty: name the folder of a LoRA adapter")
            if not self.base.strip():
                raise ValueError("base is empty: name the base model's folder")
        return self

    @property
    def engine(self) -> EngineSettings:
        """The settings of the engine."""
        return EngineSettings(
            dtype=self.dtype,
            quantization=self.quantization,
            max_model_len=self.max_model_len,
            max_batch=self.max_concurrency,
            max_queue=self.max_queue,
        )

    def smoke_settings(self) -> list[SmokeSettings]:
        """Return the settings of the smoke tests that this deploy requires, one per adapter."""
        return [
            SmokeSettings(
                adapter=folder,
                base=self.base,
                dtype=self.dtype,
                quantization=self.quantization,
                max_model_len=self.max_model_len,
                max_concurrency=self.max_concurrency,
            )
            for folder in self.adapters.values()
        ]
