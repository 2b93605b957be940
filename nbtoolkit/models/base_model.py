"""A base model as a value: its configuration and tensor headers, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbtoolkit.errors import BrokenFile
from nbtoolkit.models.base_model_files import (
    CONFIG,
    CONFIG_FILES,
    GENERATION,
    INDEX,
    WEIGHTS,
    base_identity,
    config_files,
    invalid_base,
    read_weights,
    sample_weight_file,
)
from nbtoolkit.models.base_model_resolver import resolve_folder
from nbtoolkit.models.folder_names import not_a_file, public_name
from nbtoolkit.models.safetensors_header import TensorInfo
from nbtoolkit.progress import Progress
from nbtoolkit.serving.stop_tokens import eos_token_ids
from nbtoolkit.utils.display import html_table
from nbtoolkit.utils.json_file import read_object
from nbtoolkit.workspace import Workspace

_COPY = "copy the file itself into the folder, and make it readable"


@dataclass(frozen=True, eq=False)
class Base:
    """The folder of a base model: configuration, tensors by name, and the small files next to the weights.

    ``name`` is its public name. ``weights`` are its safetensors files, one or several shards.

    >>> base = Base.resolve("models/base")
    >>> base.name, base.max_model_len
    ('base', 512)
    """

    path: Path
    name: str
    config: Mapping[str, Any] = field(repr=False)
    generation_config: Mapping[str, Any] = field(repr=False)
    tensors: Mapping[str, TensorInfo] = field(repr=False)
    weights: tuple[Path, ...] = field(repr=False)

    @classmethod
    def read(cls, path: Path | str) -> Base:
        """Return the base model in a folder; reads headers only, so the cost does not depend on its size.

        Raises :class:`InvalidBase` if configuration or safetensors weights are missing or damaged. Code in
        the folder is never run, and pickled weights are never opened.
        """
        folder = Path(path).expanduser().absolute()
        if problem := not_a_file(folder, (*CONFIG_FILES, WEIGHTS, INDEX)):
            raise invalid_base(folder, problem, _COPY)
        if not (folder / CONFIG).is_file():
            problem = f"has no {CONFIG}" if folder.is_dir() else "is not a folder"
            next_step = f"give the folder that contains {CONFIG} and the safetensors weights"
            raise invalid_base(folder, problem, next_step)
        try:
            config, generation_config = read_configs(folder)
            headers = read_weights(folder)
        except BrokenFile as error:
            raise invalid_base(folder, error.message.removesuffix("."), error.next_step) from error
        tensors = {name: info for header in headers.values() for name, info in header.tensors.items()}
        if not tensors:
            raise invalid_base(folder, "its weights have no tensors", "save or download the model again")
        return cls(
            folder, public_name(folder), config, generation_config, MappingProxyType(tensors), tuple(headers)
        )

    @classmethod
    def resolve(
        cls,
        text: str | Path,
        workspace: Workspace | None = None,
        progress: Progress | None = None,
        *,
        download: bool = False,
    ) -> Base:
        """Return a base model by its folder, or by its ``organisation/name`` on the hub.

        The order is: the path itself (relative to the workspace), ``model-cache/`` of the workspace, to
        which fine-tuning writes, ``.nbtoolkit/cache/``, then the local hub cache
        (``organisation/name@revision`` selects a revision). Only with ``download`` is it downloaded from the
        hub, safetensors and small files only. Raises :class:`InvalidBase` that lists these places, and
        :class:`MissingDependency` if ``huggingface_hub`` is needed and not installed.
        """
        folder, name = resolve_folder(
            str(text), workspace or Workspace.find(), progress or Progress(), download=download
        )
        base = cls.read(folder)
        return base if name is None else base.named(name)

    def named(self, name: str) -> Base:
        """Return the same base model under another public name."""
        return replace(self, name=name)

    @property
    def files(self) -> tuple[Path, ...]:
        """The small files: configuration, tokenizer and chat template."""
        return config_files(self.path)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors.values())

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The EOS token ids: those of the generation configuration, else those of the model's."""
        return eos_token_ids(self.generation_config.get("eos_token_id"), self.config.get("eos_token_id"))

    @property
    def max_model_len(self) -> int | None:
        """The context length in tokens; None if the configuration does not name it."""
        text = self.config.get("text_config")
        for source in (self.config, text if isinstance(text, dict) else {}):
            for key in ("max_position_embeddings", "n_positions", "max_sequence_length"):
                if type(source.get(key)) is int:
                    return source[key]
        return None

    @property
    def has_own_code(self) -> bool:
        """Whether the configuration names remote code (``auto_map``); nbtoolkit never runs it."""
        return "auto_map" in self.config

    @cached_property
    def sha256(self) -> str:
        """The identity: contents of the small files; size, header and samples of every weight file.

        The samples distinguish two trainings of one architecture. Costs a few hundred small reads instead of
        a read of all weights. Raises :class:`InvalidBase` if a file cannot be read.
        """
        try:
            return base_identity(self.path, map(sample_weight_file, self.weights))
        except OSError as error:
            name = Path(error.filename).name if error.filename else "a file"
            problem = f"{name} cannot be read: {error.strerror or error}"
            raise invalid_base(self.path, problem, _COPY) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Base) and (self.name, self.sha256) == (other.name, other.sha256)

    def __hash__(self) -> int:
        return hash((self.name, self.sha256))

    def __str__(self) -> str:
        return "\n".join([f"Base {self.name}", *(f"  {name:<8} {text}" for name, text in self._rows())])

    def _repr_html_(self) -> str:
        return html_table(self._rows(), f"Base {self.name}")

    def _rows(self) -> list[tuple[str, str]]:
        dtypes = sorted({tensor.dtype for tensor in self.tensors.values()})
        return [
            ("path", str(self.path)),
            ("kind", str(self.config.get("model_type", "unknown"))),
            ("tensors", f"{len(self.tensors)} ({', '.join(dtypes)}) in {len(self.weights)} files"),
            ("size", f"{self.weight_bytes / 1e6:,.1f} MB"),
        ]


def read_configs(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration and the generation configuration, which may be missing; raises BrokenFile."""
    generation = folder / GENERATION
    return read_object(folder / CONFIG), read_object(generation) if generation.is_file() else {}
