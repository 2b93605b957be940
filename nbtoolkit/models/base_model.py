"""A base model as a value: its configuration and what its weight files name, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbtoolkit.errors import BrokenFile, InvalidBase
from nbtoolkit.models.base_model_files import (
    CONFIG,
    GENERATION,
    base_identity,
    config_files,
    sample_weight_file,
    weight_files,
)
from nbtoolkit.models.base_model_resolver import resolve_folder
from nbtoolkit.models.safetensors_header import TensorInfo, read_header
from nbtoolkit.progress import Progress
from nbtoolkit.serving.stop_tokens import eos_token_ids
from nbtoolkit.utils.display import html_table
from nbtoolkit.utils.json_file import read_object
from nbtoolkit.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Base:
    """A base model's folder: configuration, tensors by name, and the small files beside the weights.

    ``name`` is its public name. ``weights`` are its safetensors files, one or several shards.
    """

    path: Path
    name: str
    config: Mapping[str, Any] = field(repr=False)
    generation_config: Mapping[str, Any] = field(repr=False)
    tensors: Mapping[str, TensorInfo] = field(repr=False)
    weights: tuple[Path, ...] = field(repr=False)

    @classmethod
    def read(cls, path: Path | str) -> Base:
        """Return the base model in a folder, described from its headers: cost does not grow with its size.

        Raises :class:`InvalidBase` where configuration or safetensors weights are missing or damaged. Code
        that a model brings along is never run, and pickled weights are never opened.
        """
        folder = Path(path).expanduser().absolute()
        if not (folder / CONFIG).is_file():
            raise InvalidBase(
                f"The base model {folder}: {'holds no ' + CONFIG if folder.is_dir() else 'is no folder'}.",
                next_step="give the folder that holds config.json and the safetensors weights",
                path=folder,
            )
        try:
            config = read_object(folder / CONFIG)
            generation = read_object(folder / GENERATION) if (folder / GENERATION).is_file() else {}
            tensors: dict[str, TensorInfo] = {}
            weights = weight_files(folder)
            for file in weights:
                tensors.update(read_header(file).tensors)
        except BrokenFile as error:
            raise InvalidBase(
                f"The base model {folder}: {error.message}", next_step=error.next_step, path=folder
            ) from error
        if not tensors:
            raise InvalidBase(
                f"The base model {folder}: its weights hold no tensors.",
                next_step="save or download the model again",
                path=folder,
            )
        return cls(folder, _public_name(folder), config, generation, MappingProxyType(tensors), weights)

    @classmethod
    def resolve(
        cls,
        text: str | Path,
        workspace: Workspace | None = None,
        progress: Progress | None = None,
        *,
        download: bool = False,
    ) -> Base:
        """Return the base model that a user named: by folder, or as ``organisation/name`` of the hub.

        Looked through in this order: the path itself (relative to the workspace), ``model-cache/`` of the
        workspace, where fine-tuning leaves it, ``.nbtoolkit/cache/``, then the local hub cache
        (``organisation/name@revision`` picks a revision). Only with ``download`` is it fetched from the hub,
        safetensors and small files only. Raises :class:`InvalidBase` telling where it was looked for, and
        :class:`MissingDependency` where ``huggingface_hub`` would be needed.
        """
        where = workspace or Workspace.find()
        folder, name = resolve_folder(str(text), where, progress or Progress(), download=download)
        base = cls.read(folder)
        return base if name is None else base.named(name)

    def named(self, name: str) -> Base:
        """Return the same base model under another public name."""
        return Base(self.path, name, self.config, self.generation_config, self.tensors, self.weights)

    @property
    def files(self) -> tuple[Path, ...]:
        """The small files that describe the model: configuration, tokenizer, chat template."""
        return config_files(self.path)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors.values())

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The EOS token ids: those of the generation configuration, else those of the model's."""
        return eos_token_ids(
            *(source.get("eos_token_id") for source in (self.generation_config, self.config))
        )

    @property
    def max_model_len(self) -> int | None:
        """Tokens that the model was made for; None where its configuration does not tell."""
        text = self.config.get("text_config")
        for source in (self.config, text if isinstance(text, dict) else {}):
            for key in ("max_position_embeddings", "n_positions", "max_sequence_length"):
                if type(source.get(key)) is int:
                    return source[key]
        return None

    @property
    def has_own_code(self) -> bool:
        """Whether the folder names code of its own (``auto_map``); nbtoolkit never runs it."""
        return "auto_map" in self.config

    @cached_property
    def sha256(self) -> str:
        """The identity: contents of the small files, and of every weight file size, header and samples.

        The samples tell apart two trainings of one architecture. Costs a few hundred small reads, not a
        pass over the weights.
        """
        return base_identity(self.path, map(sample_weight_file, self.weights))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Base) and (self.name, self.sha256) == (other.name, other.sha256)

    def __hash__(self) -> int:
        return hash((self.name, self.sha256))

    def __str__(self) -> str:
        return "\n".join([f"Base {self.name}", *(f"  {name:<8} {text}" for name, text in self._facts())])

    def _repr_html_(self) -> str:
        return html_table(self._facts(), f"Base {self.name}")

    def _facts(self) -> list[tuple[str, str]]:
        dtypes = sorted({tensor.dtype for tensor in self.tensors.values()})
        return [
            ("path", str(self.path)),
            ("kind", str(self.config.get("model_type", "unknown"))),
            ("tensors", f"{len(self.tensors)} ({', '.join(dtypes)}) in {len(self.weights)} files"),
            ("size", f"{self.weight_bytes / 1e6:,.1f} MB"),
        ]


def _public_name(folder: Path) -> str:
    """Return the folder's name; of a hub cache's snapshot the model's, since its folder is a commit hash."""
    cached = folder.parent.parent.name
    if folder.parent.name == "snapshots" and cached.startswith("models--"):
        return cached.rpartition("--")[2]
    return folder.name
