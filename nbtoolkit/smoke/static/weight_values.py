"""A6: all weights are finite, and B·A is not zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from nbtoolkit.errors import MissingDependency
from nbtoolkit.installation import install_hint
from nbtoolkit.models.safetensors_header import TensorInfo
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, abbreviate, check, failure, passed, warning
from nbtoolkit.smoke.static.base_match import lora_pairs, lora_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""The dtypes of LoRA weights; numpy has no bfloat16, so its bits are read as integers."""
_BLOCK = 16 * 1024**2


@check("A6", "static", "numbers")
def numbers(context: SmokeContext) -> CheckOutcome:
    """Read every tensor once, in blocks of rows, to find NaN, infinities and B·A = 0.

    Costs one read of the file and at most 32 MB of memory.
    """
    _numpy()
    adapter = context.adapter
    wrong = {name: info.dtype for name, info in adapter.tensors.items() if info.dtype not in _STORED}
    if wrong:
        kinds = ", ".join(sorted(set(wrong.values())))
        return failure(
            f"{len(wrong)} tensors are stored as {kinds}, such as {next(iter(wrong))}",
            {"wrong_types": dict(list(wrong.items())[:50])},
            "save the adapter in float32, bfloat16 or float16",
        )
    broken: dict[str, int] = {}
    used_ranks: dict[str, Array] = {}
    with adapter.weights.open("rb") as file:
        for name, info in adapter.tensors.items():
            bad, ranks = _scan(file, name, info)
            if bad:
                broken[name] = bad
            if ranks is not None:
                used_ranks[name] = ranks
    if broken:
        return failure(
            f"NaN or infinite numbers in {len(broken)} tensors: {abbreviate(list(broken), 3)}",
            {"broken": dict(list(broken.items())[:50])},
            "the training diverged: take an earlier checkpoint, a lower learning rate, or bfloat16",
        )
    zero, total = _zero_modules(adapter.tensors, used_ranks)
    evidence = {"tensors": len(adapter.tensors), "modules": total, "zero_modules": zero[:50]}
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


def _zero_modules(tensors: Any, used_ranks: dict[str, Array]) -> tuple[list[str], int]:
    """Return the modules with B·A = 0 (no rank is nonzero in both A and B), and the number of all modules."""
    complete = {module: parts for module, parts in lora_pairs(tensors).items() if {"A", "B"} <= set(parts)}
    zero = [
        module
        for module, parts in complete.items()
        if used_ranks[parts["A"]].shape == used_ranks[parts["B"]].shape
        and not (used_ranks[parts["A"]] & used_ranks[parts["B"]]).any()
    ]
    return zero, len(complete)


def _scan(file: BinaryIO, name: str, info: TensorInfo) -> tuple[int, Array | None]:
    """Return the number of values that are not finite and, for an A or B, the mask of its nonzero ranks."""
    np = _numpy()
    tensor = lora_tensor(name)
    shape = tuple(info.shape) or (1,)
    rows, columns = shape[0], int(np.prod(shape[1:], dtype=np.int64))
    bad = 0
    nonzero = np.zeros((rows if tensor and tensor.part == "A" else columns,), dtype=bool)
    kind = np.dtype(_STORED[info.dtype])
    step = max(1, _BLOCK // max(1, columns * kind.itemsize))
    file.seek(info.start)
    for first in range(0, rows, step):
        size = min(step, rows - first) * columns * kind.itemsize
        content = file.read(size)
        if len(content) < size:
            raise OSError(f"{file.name} was truncated while it was read")
        block = np.frombuffer(content, dtype=kind).reshape(-1, columns)
        if info.dtype == "BF16":
            bad += int(((block & 0x7F80) == 0x7F80).sum())
            filled = (block & 0x7FFF) != 0
        else:
            bad += int((~np.isfinite(block)).sum())
            filled = block != 0
        if tensor and tensor.part == "A":
            nonzero[first : first + len(block)] = filled.any(axis=1)
        elif tensor:
            nonzero |= filled.any(axis=0)
    return bad, nonzero if tensor else None


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
