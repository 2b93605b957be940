"""The schema of a release, as stored on the share."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from .adapter_modules import conflict
from .chat_template import Templates

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ReleaseModel(BaseModel):
    """A part of the schema; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ServedBase(ReleaseModel):
    """The base model: its public name, and its folder, absolute or relative to the mount."""

    name: str
    path: str
    sha256: Sha256


class ServedAdapter(ReleaseModel):
    """One adapter: its public name, and its folder relative to the mount."""

    name: str
    path: str
    sha256: Sha256
    rank: int
    modules: dict[str, str] = {}
    """Module name → how peft holds it, as :func:`adapted_modules` returns them."""
    source: str | None = None
    """``org/name@commit`` of an adapter from the hub."""

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer fields that are empty, so that releases of older versions keep their ids."""
        values: dict[str, Any] = serialize(self)
        return {name: value for name, value in values.items() if value or name not in ("modules", "source")}

    @property
    def engine_name(self) -> str:
        """The adapter's name inside the engine, never reused for other content."""
        return f"a_{self.sha256[:16]}"


class ServedTokenizer(ReleaseModel):
    """The tokenizer and the chat template in force; the folder is absolute or relative to the mount.

    ``chat_template`` is the template in force, or several by name; None only if there is none. ``sha256``
    covers both.
    """

    path: str
    sha256: Sha256
    chat_template: Templates | None = None


class EngineSettings(ReleaseModel):
    """Settings of the engine; a change of any of them needs a restart."""

    kind: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "nf4"] = "none"
    max_model_len: int | None = Field(default=None, ge=16, description="tokens; None: the model's own limit")
    max_batch: int = Field(default=16, ge=1, le=256, description="answers decoded at once")
    max_queue: int = Field(default=64, ge=0, description="requests waiting before 429")


class ServedCode(ReleaseModel):
    """The program that runs: this server by its folder's hash, or the user's ``inference/`` folder."""

    kind: Literal["nbtoolkit", "own"] = "nbtoolkit"
    sha256: Sha256
    wheels_sha256: Sha256 | None = None
    commands: tuple[str, ...] = ()
    """Start commands of the custom server, in order; the first that fails ends the start."""


class Release(ReleaseModel):
    """A complete description of what is served; immutable, named by its content."""

    format: Literal[1] = 1
    base: ServedBase | None
    """None only for a custom server."""
    adapters: tuple[ServedAdapter, ...] = ()
    tokenizer: ServedTokenizer | None = None
    engine: EngineSettings = EngineSettings()
    code: ServedCode
    reports: dict[str, Sha256] = {}
    """Adapter name → sha256 of the smoke report that allowed it."""
    override_reason: str | None = None

    @property
    def id(self) -> str:
        """``r-`` and a short hash of the content; starts with a letter, so papermill leaves it a string."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return f"r-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def adapter(self, name: str) -> ServedAdapter | None:
        """Return the adapter of that public name."""
        return next((adapter for adapter in self.adapters if adapter.name == name), None)

    def needs_restart_from(self, running: Release) -> bool:
        """Return whether a hot swap cannot reach this release."""
        return bool(self.restart_reason(running))

    def restart_reason(self, running: Release) -> str:
        """Return why a hot swap cannot reach this release, or an empty text.

        More than the adapters differs, or the engine cannot hold new and running adapters side by side.
        """
        if changed := [
            name for name, value in _engine_parts(self).items() if value != _engine_parts(running)[name]
        ]:
            return f"the {', '.join(changed)} changed"
        for new in self.adapters:
            for old in running.adapters:
                if new.sha256 != old.sha256 and (reason := conflict(new.modules, old.modules)):
                    return f"{new.name} cannot be loaded next to the running {old.name}: {reason}"
        return ""


def _engine_parts(release: Release) -> dict[str, object]:
    """Return what an engine is started with, by name."""
    # A tokenizer is compared by content: an adapter that brings the same one has it at a new path.
    return {
        "base": release.base,
        "tokenizer": release.tokenizer and release.tokenizer.sha256,
        "engine settings": release.engine,
        "code": release.code,
    }
