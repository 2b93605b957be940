"""The files of a base model, and its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from nbtoolkit.errors import InvalidBase
from nbtoolkit.models.safetensors_header import RangeReader, SafetensorsHeader, file_reader, read_header
from nbtoolkit.serving.content_hash import ADAPTER_FILES, file_sha256, template_files
from nbtoolkit.utils.json_file import read_object

CONFIG = "config.json"
GENERATION = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

CONFIG_FILES = (CONFIG, GENERATION, *(name for name in ADAPTER_FILES if not name.startswith("adapter_")))
"""Configuration, tokenizer and chat template."""

_SAMPLES = 16
_SAMPLE_BYTES = 4096


def config_files(folder: Path) -> tuple[Path, ...]:
    """Return the existing small files: configuration, tokenizer and chat template."""
    files = (folder / name for name in CONFIG_FILES if (folder / name).is_file())
    return (*files, *template_files(folder).values())


def expected_weights(folder: Path, existing: Container[str]) -> dict[str, set[str]]:
    """Return safetensors file → names of its tensors; an empty set if there is no index.

    The index, if there is one, is read from ``folder``. The content of the files is not checked. Raises
    :class:`InvalidBase` if a file is not ``existing``.
    """
    if WEIGHTS in existing:
        return {WEIGHTS: set()}
    if not (folder / INDEX).is_file():
        raise _invalid_without_weights(folder)
    files: Any = read_object(folder / INDEX).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise invalid_base(folder, f"{INDEX} has no weight_map", "download the index again")
    shards: dict[str, set[str]] = {name: set() for name in sorted(set(files.values()))}
    if outside := [name for name in shards if Path(name).name != name]:
        problem = f"{INDEX} names {outside[0]!r}, outside of the folder"
        raise invalid_base(folder, problem, "download the index again")
    if missing := [name for name in shards if name not in existing]:
        some = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        problem = f"{len(missing)} of {len(shards)} weight files are missing: {some}"
        raise invalid_base(folder, problem, "finish the download")
    for tensor, name in files.items():
        shards[name].add(tensor)
    return shards


def read_weights(folder: Path) -> dict[Path, SafetensorsHeader]:
    """Return the header of every weight file; raises :class:`InvalidBase` if the index does not match."""
    headers: dict[Path, SafetensorsHeader] = {}
    for name, expected in expected_weights(folder, {f.name for f in folder.iterdir() if f.is_file()}).items():
        header = headers[folder / name] = read_header(folder / name)
        if missing := sorted(expected - header.tensors.keys()):
            problem = f"{name} lacks {len(missing)} tensors, {missing[0]!r} first"
            raise invalid_base(folder, problem, "download that file again")
    return headers


def base_identity(folder: Path, weights: Iterable[tuple[str, int, str]]) -> str:
    """Return sha256 over names, sizes and contents of the small files, and samples of the weights.

    ``weights`` are the weight files' names, sizes and :func:`sampled_sha256`.
    """
    digest = hashlib.sha256()
    for file in config_files(folder):
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0{file_sha256(file)}\n".encode())
    for name, size, sampled in weights:
        digest.update(f"{name}\0{size}\0{sampled}\n".encode())
    return digest.hexdigest()


def sample_weight_file(path: Path) -> tuple[str, int, str]:
    """Return name, size and :func:`sampled_sha256` of a weight file."""
    header = read_header(path)
    with path.open("rb", buffering=0) as file:
        return path.name, header.file_size, sampled_sha256(header, file_reader(file))


def sampled_sha256(header: SafetensorsHeader, read: RangeReader) -> str:
    """Hash a weight file's header and evenly spaced samples of its data."""
    data_size = header.file_size - header.data_start
    step = max(data_size // _SAMPLES, _SAMPLE_BYTES)
    digest = hashlib.sha256()
    digest.update(read(0, header.data_start))
    for start in range(header.data_start, header.file_size, step):
        digest.update(read(start, _SAMPLE_BYTES))
    return digest.hexdigest()


def _invalid_without_weights(folder: Path) -> InvalidBase:
    names = (f"*model*{suffix}" for suffix in (".bin", ".pt", ".pth"))
    pickles = sorted(file.name for name in names for file in folder.glob(name))
    if pickles:
        problem = (
            f"its weights are pickles ({', '.join(pickles[:3])}), which can run code when they are opened"
        )
        return invalid_base(folder, problem, "use a safetensors copy of the model")
    problem = f"has neither {WEIGHTS} nor {INDEX}"
    return invalid_base(folder, problem, "finish the download, or save the weights there")


def invalid_base(folder: Path, problem: str, next_step: str) -> InvalidBase:
    """Return the error for a folder that is not a usable base model."""
    return InvalidBase(f"The base model {folder}: {problem}.", next_step=next_step, path=folder)
