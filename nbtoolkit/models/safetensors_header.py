"""Read and check the header of a safetensors file, without torch and without reading tensor data."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbtoolkit.errors import BrokenFile
from nbtoolkit.utils.json_file import parse_object

MAX_HEADER = 100_000_000
"""Bytes; the limit of the format, so that a wrong length never fills the memory."""
_LFS_POINTER = "it is a git-lfs pointer, not the weights"

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
class SafetensorsHeader:
    """The header of one file; ``data_start`` and ``file_size`` are in bytes."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int
    file_size: int


RangeReader = Callable[[int, int], bytes]
"""Read a number of bytes from an offset of a file, fewer only at its end; raises OSError."""


def read_header(path: Path) -> SafetensorsHeader:
    """Return the checked header of a safetensors file; a file without tensors is valid.

    Costs two small reads for a file of any size. Raises :class:`BrokenFile`, with ``path`` and ``problem``,
    if the file cannot be read, is truncated, has another format, or if offsets, shapes and types disagree.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return parse_header(path, file.seek(0, 2), file_reader(file))
    except OSError as error:
        raise _broken(path, f"it cannot be read: {error.strerror or error}") from error


def file_reader(file: FileIO) -> RangeReader:
    """Return a reader for ranges of an open file."""

    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length) or b""

    return read


def parse_header(path: Path, file_size: int, read: RangeReader) -> SafetensorsHeader:
    """Return the header of a file of ``file_size`` bytes, local or remote; ``path`` is for messages."""
    start = read(0, 8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(MAX_HEADER, file_size - 8):
        raise _broken(path, _no_header_reason(start + read(8, 56), length, file_size))
    raw = read(8, length)
    content = _parse_json(path, raw)
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, "the header's __metadata__ is not a mapping of strings")
    tensors = {name: _parse_tensor(path, name, entry, 8 + length) for name, entry in content.items()}
    _check_layout(path, tensors, 8 + length, file_size)
    return SafetensorsHeader(MappingProxyType(tensors), MappingProxyType(metadata), 8 + length, file_size)


def _no_header_reason(start: bytes, length: int, file_size: int) -> str:
    if start.startswith(b"version https://git-lfs"):
        return _LFS_POINTER
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return "it is a PyTorch pickle under the name of a safetensors file"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, not the weights: the download went wrong"
    if file_size < 8:
        return f"it has {file_size} bytes and no header: it is empty or truncated"
    if length > MAX_HEADER:
        return f"its header would have {length} bytes: it is not a safetensors file, or damaged"
    return f"it is truncated: its header needs {length + 8} bytes and the file has {file_size}"


def _parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    if raw.startswith(codecs.BOM_UTF8):
        raise _broken(path, "its header is not a JSON object: it starts with a byte order mark")
    try:
        return parse_object(raw.decode("utf-8"), path)
    except UnicodeDecodeError as error:
        problem = str(error)
    except BrokenFile as error:
        problem = error.problem
    raise _broken(path, f"its header is not a JSON object: {problem}")


def _parse_tensor(path: Path, name: str, entry: Any, data_start: int) -> TensorInfo:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]} if all(
            type(size) is int and size >= 0 for size in shape
        ):
            pass
        case _:
            raise _broken(path, f"the header's entry of tensor {name!r} lacks dtype, shape or data_offsets")
    if dtype not in BITS:
        raise _broken(path, f"tensor {name!r} has the unknown type {dtype!r}")
    size = -(-prod(shape) * BITS[dtype] // 8)
    if end - start != size or start < 0:
        raise _broken(
            path, f"tensor {name!r} ({dtype} {shape}) needs {size} bytes and its offsets span {end - start}"
        )
    return TensorInfo(dtype, tuple(shape), data_start + start, data_start + end)


def _check_layout(path: Path, tensors: dict[str, TensorInfo], data_start: int, file_size: int) -> None:
    """Check that the tensors are contiguous and fill the file; otherwise it is damaged."""
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
        next_step="run `git lfs pull` in the folder's repository"
        if problem == _LFS_POINTER
        else "save or download the file again, and check for a full disk",
        path=path,
        problem=problem,
    )
