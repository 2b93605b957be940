"""Which files make up a base model, and what identifies it."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from nbtoolkit.errors import InvalidBase
from nbtoolkit.models.safetensors_header import Header, Read, read_header, reader
from nbtoolkit.serving.content_hash import ADAPTER_FILES, file_sha256
from nbtoolkit.utils.json_file import read_object

CONFIG = "config.json"
GENERATION = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

DESCRIBED_FILES = (CONFIG, GENERATION, *(name for name in ADAPTER_FILES if not name.startswith("adapter_")))
"""Configuration, tokenizer and chat template."""

_SAMPLES = 16
_SAMPLE_BYTES = 4096


def described_files(folder: Path) -> tuple[Path, ...]:
    """Return the small files that say how the model is used."""
    return tuple(folder / name for name in DESCRIBED_FILES if (folder / name).is_file())


def weight_names(folder: Path, there: Container[str]) -> tuple[str, ...]:
    """Return the names of the safetensors files out of those that are ``there``; raises InvalidBase.

    The index lies in ``folder``, where there is one. What the files hold is not looked at.
    """
    if WEIGHTS in there:
        return (WEIGHTS,)
    if not (folder / INDEX).is_file():
        raise _missing(
            folder, f"holds neither {WEIGHTS} nor {INDEX}", "finish the download, or save the weights there"
        )
    return tuple(_promised(folder, read_object(folder / INDEX), there))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files that hold the weights; raises InvalidBase where one is missing."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if (folder / INDEX).is_file():
        return _shards(folder, read_object(folder / INDEX))
    pickles = sorted(
        file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(f"*model{pattern}")
    )
    if pickles:
        raise _missing(
            folder,
            f"its weights are pickles ({', '.join(pickles[:3])}), which can run code when they are opened",
            "use a safetensors copy of the model",
        )
    raise _missing(
        folder, f"holds neither {WEIGHTS} nor {INDEX}", "finish the download, or save the weights there"
    )


def _shards(folder: Path, index: dict[str, Any]) -> tuple[Path, ...]:
    there = {file.name for file in folder.iterdir() if file.is_file()}
    promised = _promised(folder, index, there)
    for name, tensors in promised.items():
        lacking = sorted(tensors - read_header(folder / name).tensors.keys())
        if lacking:
            raise _missing(
                folder,
                f"{name} lacks {len(lacking)} tensors, {lacking[0]!r} first",
                "download that file again",
            )
    return tuple(folder / name for name in promised)


def _promised(folder: Path, index: dict[str, Any], there: Container[str]) -> dict[str, set[str]]:
    """Return the weight files that an index names, with their tensors' names; all must be ``there``."""
    placed = index.get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(v, str) for v in placed.values()):
        raise _missing(folder, f"{INDEX} has no weight_map", "download the index again")
    names: list[str] = sorted(set(placed.values()))
    foreign = [name for name in names if Path(name).name != name]
    if foreign:
        raise _missing(
            folder, f"{INDEX} names {foreign[0]!r}, outside of the folder", "download the index again"
        )
    absent = [name for name in names if name not in there]
    if absent:
        some = ", ".join(absent[:3]) + (" …" if len(absent) > 3 else "")
        raise _missing(
            folder, f"{len(absent)} of {len(names)} weight files are missing: {some}", "finish the download"
        )
    promised: dict[str, set[str]] = {name: set() for name in names}
    for tensor, name in placed.items():
        promised[name].add(tensor)
    return promised


def identity(folder: Path, weights: Iterable[tuple[str, int, str]]) -> str:
    """Return sha256 over names, sizes and contents of the small files, and samples of the large ones.

    ``weights`` are the weight files' names, sizes and :func:`sampled_sha256`.
    """
    digest = hashlib.sha256()
    for file in described_files(folder):
        digest.update(f"{file.name}\0{file.stat().st_size}\0{file_sha256(file)}\n".encode())
    for name, size, sampled in weights:
        digest.update(f"{name}\0{size}\0{sampled}\n".encode())
    return digest.hexdigest()


def sampled_file(path: Path) -> tuple[str, int, str]:
    """Return name, size and :func:`sampled_sha256` of a weight file."""
    header = read_header(path)
    with path.open("rb", buffering=0) as file:
        return path.name, header.file_size, sampled_sha256(header, reader(file))


def sampled_sha256(header: Header, read: Read) -> str:
    """Hash a weight file's header and evenly spread pieces of its data."""
    room = header.file_size - header.data_start
    step = max(room // _SAMPLES, _SAMPLE_BYTES)
    digest = hashlib.sha256()
    digest.update(read(0, header.data_start))
    for start in range(header.data_start, header.file_size, step):
        digest.update(read(start, _SAMPLE_BYTES))
    return digest.hexdigest()


def _missing(folder: Path, problem: str, next_step: str) -> InvalidBase:
    return InvalidBase(f"The base model {folder}: {problem}.", next_step=next_step, path=folder)
