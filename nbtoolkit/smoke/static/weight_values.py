"""A6: all weights are finite, and B·A is not zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nbtoolkit.errors import BrokenFile, MissingDependency
from nbtoolkit.installation import install_hint
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.adapter_keys import lora_pairs, lora_tensor, repaired_key
from nbtoolkit.models.safetensors_header import TensorInfo
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, abbreviate, check, failure, passed, warning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_BITS = {
    "F32": ("<u4", 0x7FFF_FFFF, 0x7F80_0000),
    "F16": ("<u2", 0x7FFF, 0x7C00),
    "BF16": ("<u2", 0x7FFF, 0x7F80),
}
"""Type of a weight → unsigned integers of its size, mask of the bits without the sign, bits of infinity.

Magnitudes compare as these integers do: 0 is zero, infinity and NaN are the largest.
"""
_BLOCK = 1 << 20
"""Bytes per read: they stay in the CPU's cache, and memory does not depend on the tensor."""


@check("A6", "static", "numbers")
def numbers(context: SmokeContext) -> CheckOutcome:
    """Read every tensor once, in blocks, to find NaN, infinities and B·A = 0.

    Costs one read of the file and a few megabytes of memory.
    """
    _numpy()
    adapter = context.adapter
    wrong = {name: info.dtype for name, info in adapter.tensors.items() if info.dtype not in _BITS}
    if wrong:
        kinds = ", ".join(sorted(set(wrong.values())))
        return failure(
            f"{len(wrong)} tensors are stored as {kinds}, such as {next(iter(wrong))}",
            {"wrong_types": dict(list(wrong.items())[:50])},
            "save the adapter in float32, bfloat16 or float16",
        )
    broken, used_ranks = _scan_file(adapter)
    if broken:
        return failure(
            f"NaN or infinite numbers in {len(broken)} tensors: {abbreviate(list(broken), 3)}",
            {"broken": dict(list(broken.items())[:50])},
            "the training diverged: take an earlier checkpoint, a lower learning rate, or bfloat16",
        )
    zero, total = _zero_modules(adapter.tensors, used_ranks)
    evidence = {"tensors": len(adapter.tensors), "modules": total, "zero_modules": zero[:50]}
    if not total:
        return failure(
            f"none of the {len(adapter.tensors)} tensors are a pair of lora_A and lora_B, "
            f"such as {next(iter(adapter.tensors))}: there is no B·A to check",
            evidence,
            "save the adapter with peft's save_pretrained from the trained model",
        )
    if zero and len(zero) == total:
        return failure(
            f"B·A is zero in all {total} modules: the adapter changes nothing",
            evidence,
            "the adapter was saved untrained: save after training, and from the trained model",
        )
    if zero:
        return warning(
            f"B·A is zero in {len(zero)} of {total} modules: {abbreviate(zero, 3)}",
            evidence,
            "check whether these modules should have been trained",
        )
    return passed(f"{len(adapter.tensors)} tensors finite, B·A not zero in {total} modules", evidence)


def _scan_file(adapter: Adapter) -> tuple[dict[str, int], dict[str, Array]]:
    """Return tensor → number of values that are not finite, and A or B → the mask of its nonzero ranks."""
    broken: dict[str, int] = {}
    used_ranks: dict[str, Array] = {}
    with adapter.weights.open("rb", buffering=0) as file:
        in_order = sorted(adapter.tensors.items(), key=lambda item: item[1].start)
        for name, info in in_order:
            tensor = lora_tensor(repaired_key(name).name or name)
            bad, ranks = _scan(file, info, tensor.part if tensor else "")
            if bad:
                broken[name] = bad
            if ranks is not None:
                used_ranks[name] = ranks
    return broken, used_ranks


def _zero_modules(
    tensors: Mapping[str, TensorInfo], used_ranks: Mapping[str, Array]
) -> tuple[list[str], int]:
    """Return the modules with B·A = 0 (no rank is nonzero in both A and B), and the number of all modules."""
    complete = {module: parts for module, parts in lora_pairs(tensors).items() if {"A", "B"} <= set(parts)}
    zero = [
        module
        for module, parts in complete.items()
        if used_ranks[parts["A"]].shape == used_ranks[parts["B"]].shape
        and not (used_ranks[parts["A"]] & used_ranks[parts["B"]]).any()
    ]
    return zero, len(complete)


def _scan(file: BinaryIO, info: TensorInfo, part: str) -> tuple[int, Array | None]:
    """Return the number of values that are not finite and, for an A or B, the mask of its nonzero ranks.

    A has a rank per row; B, with all dimensions after the first as one, a rank per column.
    """
    np = _numpy()
    kind, mask, infinity = _BITS[info.dtype]
    rows = info.shape[0] if info.shape else 1
    columns = int(np.prod(info.shape[1:], dtype=np.int64))
    bad = 0
    nonzero = np.zeros((rows if part == "A" else columns) if part else 0, dtype=bool)
    for row, column, block in _blocks(file, info, rows, columns, np.dtype(kind)):
        magnitude = np.bitwise_and(block, mask, out=block)
        if magnitude.max(initial=0) >= infinity:
            bad += int((magnitude >= infinity).sum())
        ranks = slice(row, row + len(block)) if part == "A" else slice(column, column + block.shape[1])
        if part and not nonzero[ranks].all():
            nonzero[ranks] |= magnitude.any(axis=1 if part == "A" else 0)
    return bad, nonzero if part else None


def _blocks(
    file: BinaryIO, info: TensorInfo, rows: int, columns: int, kind: Any
) -> Iterator[tuple[int, int, Array]]:
    """Yield first row, first column and values of the blocks of a matrix: several rows, or part of one."""
    np = _numpy()
    room = _BLOCK // kind.itemsize
    height, width = max(1, room // max(1, columns)), min(columns, room)
    file.seek(info.start)
    buffer = np.empty(height * width, dtype=kind)
    for row in range(0, rows if columns else 0, height):
        for column in range(0, columns, max(1, width)):
            shape = (min(height, rows - row), min(width, columns - column))
            block = buffer[: shape[0] * shape[1]]
            _read_into(file, memoryview(block).cast("B"))
            yield row, column, block.reshape(shape)


def _read_into(file: BinaryIO, view: memoryview) -> None:
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]  # a raw file has it
        if not count:
            raise BrokenFile(
                f"{file.name} was truncated while it was read.",
                next_step="let the program that writes it finish, then test again",
                path=Path(file.name),
            )
        view = view[count:]


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise MissingDependency(
            "The smoke test reads the adapter's weights with numpy, which is not installed.",
            next_step=install_hint("model"),
            package="numpy",
        ) from error
    return numpy
