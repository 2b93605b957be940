"""A LoRA adapter as a value: its configuration and tensor headers, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nbtoolkit.errors import BrokenFile, InvalidAdapter
from nbtoolkit.models.adapter_formats import recognise
from nbtoolkit.models.folder_names import not_a_file, public_name
from nbtoolkit.models.safetensors_header import TensorInfo, read_header
from nbtoolkit.serving.content_hash import ADAPTER_FILES, adapter_files, folder_sha256
from nbtoolkit.utils.display import html_table
from nbtoolkit.utils.json_file import read_object

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA folder: its configuration, and the tensors that the header of its weights file lists.

    ``config`` is the parsed ``adapter_config.json``; ``other_weights`` are weight files that are not served
    and never read. Two adapters are equal if their ``sha256`` is.

    >>> adapter = Adapter.read("adapters/tone")
    >>> adapter.name, adapter.rank
    ('tone', 4)
    """

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(repr=False)
    size: int
    """Bytes of all served files."""
    files: tuple[Path, ...] = field(repr=False)
    other_weights: tuple[Path, ...] = ()

    @classmethod
    def read(cls, path: Path | str) -> Adapter:
        """Return the adapter in a folder; reads headers only, so a gigabyte takes milliseconds.

        Raises :class:`InvalidAdapter`, with ``check`` naming the smoke test's check, if the folder is not
        an adapter: no folder or configuration, no safetensors weights in one file (A1, A2), a damaged file.
        Its quality is the subject of the smoke test.
        """
        folder = Path(path).expanduser().absolute()
        _check_folder(folder)
        try:
            config = read_object(folder / CONFIG)
        except BrokenFile as error:
            next_step = repair_command(folder) if "UTF-16" in error.message else error.next_step
            raise _invalid("A1", folder, error.message.rstrip("."), next_step) from error
        if not any(folder.glob("adapter_model*")) and (foreign := recognise(folder, config)):
            raise _invalid("A1", folder, *foreign)
        weights, others = _weights(folder)
        try:
            header = read_header(weights)
        except BrokenFile as error:
            problem = f"{weights.name} is damaged: {error.problem}"
            raise _invalid("A1", folder, problem, error.next_step) from error
        if not header.tensors:
            raise _invalid(
                "A1",
                folder,
                f"{weights.name} ({header.file_size} bytes) has no tensors: the adapter was saved empty",
                "save it again from the training process, with PEFT's save_pretrained on the PEFT model",
            )
        if foreign := recognise(folder, config, header.tensors):
            raise _invalid("A1", folder, *foreign)
        files = tuple(adapter_files(folder).values())
        try:
            size = sum(file.stat().st_size for file in files)
        except OSError as error:
            raise _unreadable(folder, error) from error
        return cls(folder, config, header.tensors, header.metadata, size, files, others)

    @property
    def name(self) -> str:
        """The folder's name, or the repository's in the hub cache, as a public name."""
        return public_name(self.path)

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.path / WEIGHTS

    @property
    def base_name(self) -> str | None:
        """The base model in the configuration: a hub name or a path; None if it is not named."""
        name = self.config.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None

    @property
    def rank(self) -> int:
        """The largest rank of any module, with ``rank_pattern``; raises :class:`InvalidAdapter` (A3)."""
        ranks: list[Any] = [self.config.get("r"), *self.rank_pattern.values()]
        for rank in ranks:
            if type(rank) is not int or rank < 1:
                raise _invalid(
                    "A3",
                    self.path,
                    f"{CONFIG} has the rank {rank!r}; expected a whole number above 0",
                    "correct r or rank_pattern to the values of the training",
                )
        return max(ranks)

    @property
    def rank_pattern(self) -> Mapping[str, Any]:
        """Module pattern → rank, if it differs from ``r``."""
        return _mapping(self.config.get("rank_pattern"))

    @property
    def alpha_pattern(self) -> Mapping[str, Any]:
        """Module pattern → alpha, if it differs from ``lora_alpha``."""
        return _mapping(self.config.get("alpha_pattern"))

    @property
    def use_rslora(self) -> bool:
        """Whether the scale is alpha / √rank instead of alpha / rank."""
        return self.config.get("use_rslora") is True

    @cached_property
    def sha256(self) -> str:
        """The hash of the served files, independent of their location; reads all of them once.

        Raises :class:`InvalidAdapter` if one cannot be read.
        """
        try:
            return folder_sha256(self.named_files)
        except OSError as error:
            raise _unreadable(self.path, error) from error

    @property
    def named_files(self) -> Mapping[str, Path]:
        """POSIX name inside the folder → file."""
        return {file.relative_to(self.path).as_posix(): file for file in self.files}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adapter) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __str__(self) -> str:
        return "\n".join([f"Adapter {self.name}", *(f"  {name:<8} {text}" for name, text in self._rows())])

    def __repr__(self) -> str:
        return f"Adapter({str(self.path)!r}, {len(self.tensors)} tensors, {self.size:,} bytes)"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), f"Adapter {self.name}")

    def _rows(self) -> list[tuple[str, str]]:
        """Return label and text of each fact; does not hash, and does not raise on a bad configuration."""
        dtypes = sorted({tensor.dtype for tensor in self.tensors.values()})
        ranks = sorted({str(rank) for rank in (self.config.get("r"), *self.rank_pattern.values())})
        return [
            ("path", str(self.path)),
            ("base", self.base_name or "not named"),
            ("rank", ", ".join(ranks)),
            ("tensors", f"{len(self.tensors)} ({', '.join(dtypes)})"),
            ("size", f"{self.size / 1e6:,.1f} MB"),
        ]


def repair_command(folder: Path) -> str:
    """Return the line of Python that writes a repaired copy of the adapter in a folder."""
    return f"from nbtoolkit import repair_adapter; repair_adapter({str(folder)!r})"


_COPY = "copy the file itself into the folder, and make it readable"


def _unreadable(folder: Path, error: OSError) -> InvalidAdapter:
    name = Path(error.filename).name if error.filename else "a file"
    return _invalid("A1", folder, f"{name} cannot be read: {error.strerror or error}", _COPY)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _check_folder(folder: Path) -> None:
    if problem := not_a_file(folder, ADAPTER_FILES):
        raise _invalid("A1", folder, problem, _COPY)
    if folder.is_dir() and (folder / CONFIG).is_file():
        return
    if folder.exists() and (foreign := recognise(folder, {})):
        raise _invalid("A1", folder, *foreign)
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        nearest = f", such as {folder.parent}" if (folder.parent / CONFIG).is_file() else ""
        raise _invalid("A1", folder, problem, f"give the folder that contains {CONFIG}{nearest}")
    below = sorted(file.parent for depth in ("*", "*/*") for file in folder.glob(f"{depth}/{CONFIG}"))
    nearest = (
        f": perhaps {', '.join(map(str, below[:5]))}" if below else ", as PEFT's save_pretrained writes it"
    )
    raise _invalid("A1", folder, f"has no {CONFIG}", f"give the adapter's own folder{nearest}")


def _weights(folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """Return the weights file, and the other weight files in the folder."""
    files = sorted(file for file in folder.glob("adapter_model*") if file.is_file())
    weights = folder / WEIGHTS
    if weights in files:
        return weights, tuple(file for file in files if file != weights)
    names = ", ".join(file.name for file in files)
    if any("-of-" in file.name or file.name.endswith(".index.json") for file in files):
        problem = f"its weights are sharded ({names}), which no engine can read"
        raise _invalid("A1", folder, problem, f"join the files: {repair_command(folder)}")
    if files:
        raise _invalid(
            "A2",
            folder,
            f"its weights are pickles ({names}), which can run code when they are opened",
            f"save it as {WEIGHTS}: PEFT's save_pretrained(..., safe_serialization=True)",
        )
    raise _invalid(
        "A1",
        folder,
        f"has {CONFIG} but no {WEIGHTS}",
        "copy the weights into the same folder, or save the adapter again",
    )


def _invalid(check: str, folder: Path, problem: str, next_step: str) -> InvalidAdapter:
    return InvalidAdapter(
        f"{check}: the adapter {folder}: {problem}.",
        next_step=next_step,
        check=check,
        path=folder,
        problem=problem,
    )
