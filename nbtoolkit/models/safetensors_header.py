"""Read what a safetensors file says about its tensors, without torch and without reading any of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbtoolkit.errors import BrokenFile

MAX_HEADER = 100_000_000
"""Bytes; the format's own limit, so that a wrong length never fills the memory."""

BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of one element."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file: ``start`` and ``end`` are byte positions in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file; ``data_start`` and ``file_size`` are bytes."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int
    file_size: int


Read = Callable[[int, int], bytes]
"""Read so many bytes from an offset of a file, fewer only at its end; raises OSError."""


def read_header(path: Path) -> Header:
    """Return the checked header of a safetensors file; a file without tensors is a valid one.

    Costs two small reads, whatever the file's size. Raises :class:`BrokenFile`, with ``path`` and
    ``problem``, where the file cannot be read, is truncated, is of another format, or where offsets, shapes
    and types do not agree.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return header_of(path, file.seek(0, 2), reader(file))
    except OSError as error:
        raise _broken(path, f"it cannot be read: {error.strerror or error}") from error


def reader(file: FileIO) -> Read:
    """Return how ranges of an open file are read."""

    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length) or b""

    return read


def header_of(path: Path, file_size: int, read: Read) -> Header:
    """Return the header of a file of ``file_size`` bytes, wherever it lies; ``path`` is for messages."""
    start = read(0, 8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(MAX_HEADER, file_size - 8):
        raise _broken(path, _why_no_header(start + read(8, 56), length, file_size))
    raw = read(8, length)
    content = _parse(path, raw)
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, "the header's __metadata__ is no mapping of texts")
    tensors = {name: _tensor(path, name, entry, 8 + length) for name, entry in content.items()}
    _check_layout(path, tensors, 8 + length, file_size)
    return Header(MappingProxyType(tensors), MappingProxyType(metadata), 8 + length, file_size)


def _why_no_header(start: bytes, length: int, file_size: int) -> str:
    if start.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer, not the weights: run `git lfs pull`"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return "it is a PyTorch pickle under the name of a safetensors file"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, not the weights: the download went wrong"
    if file_size < 8:
        return f"it has {file_size} bytes and no header: it is empty or truncated"
    if length > MAX_HEADER:
        return f"its header would have {length} bytes: it is no safetensors file, or damaged"
    return f"it is truncated: its header needs {length + 8} bytes and the file has {file_size}"


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise _broken(path, "its header is no JSON object")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice!r} appears twice")
    return found


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> TensorInfo:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]} if all(
            type(size) is int and size >= 0 for size in shape
        ):
            pass
        case _:
            raise _broken(path, f"the header's entry of tensor {name!r} lacks dtype, shape or data_offsets")
    if dtype not in BITS:
        raise _broken(path, f"tensor {name!r} has the unknown type {dtype!r}")
    wanted = -(-prod(shape) * BITS[dtype] // 8)
    if end - start != wanted or start < 0:
        raise _broken(
            path, f"tensor {name!r} ({dtype} {shape}) needs {wanted} bytes and its offsets say {end - start}"
        )
    return TensorInfo(dtype, tuple(shape), data_start + start, data_start + end)


def _check_layout(path: Path, tensors: dict[str, TensorInfo], data_start: int, file_size: int) -> None:
    """Check that the tensors lie one after the other and fill the file: anything else is damage."""
    position = data_start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != position:
            kind = "overlaps the one before it" if tensor.start < position else "leaves a hole before it"
            raise _broken(path, f"tensor {name!r} {kind}: it starts at byte {tensor.start}, not {position}")
        position = tensor.end
    if file_size < position:
        raise _broken(
            path, f"it is truncated: its header needs {position} bytes and the file has {file_size}"
        )
    if file_size > position:
        raise _broken(path, f"{file_size - position} bytes follow the last tensor: it is damaged")


def _broken(path: Path, problem: str) -> BrokenFile:
    return BrokenFile(
        f"{path}: {problem}.",
        next_step="save or download the file again, and look for a full disk",
        path=path,
        problem=problem,
    )
