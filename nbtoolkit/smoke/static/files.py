"""A1 and A2: the right files, whole, and nothing in them that runs."""

from __future__ import annotations

import json
from pathlib import Path

from nbtoolkit.errors import InvalidAdapter
from nbtoolkit.models.adapter import WEIGHTS
from nbtoolkit.smoke.check import CheckOutcome, check, shortened
from nbtoolkit.smoke.context import Subject
from nbtoolkit.smoke.static.lora_keys import lora_tensor

PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_WITH_AUTO_MAP = ("adapter_config.json", "config.json", "tokenizer_config.json", "processor_config.json")
_LARGE = 50 * 1024**2


@check("A1", "static", "files")
def adapter_files(subject: Subject) -> CheckOutcome:
    """Ask for a configuration and one whole weight file with tensors in it."""
    if isinstance(subject.read, InvalidAdapter):
        error = subject.read
        if getattr(error, "check", "A1") == "A2":
            return CheckOutcome("pass", "a configuration and a weight file; A2 tells what kind")
        return CheckOutcome("fail", getattr(error, "problem", error.message), remedy=error.next_step)
    adapter = subject.read
    size = adapter.weights.stat().st_size
    beside = {name: info.size for name, info in adapter.tensors.items() if lora_tensor(name) is None}
    evidence = {"tensors": len(adapter.tensors), "bytes": size, "beside_lora": beside}
    summary = f"{len(adapter.tensors)} tensors, {size:,} bytes, rank {adapter.config.get('r')}"
    if sum(beside.values()) > max(_LARGE, size // 2) or size > subject.base.weight_bytes:
        what = f": {shortened(sorted(beside))} beside the LoRA matrices" if beside else ""
        return CheckOutcome(
            "warn",
            f"{summary}; far larger than expected{what}",
            evidence,
            "save without whole modules (save_embedding_layers=False, no modules_to_save) unless trained",
        )
    return CheckOutcome("pass", summary, evidence)


@check("A2", "static", "safe format")
def safe_format(subject: Subject) -> CheckOutcome:
    """Refuse pickled weights and anything that brings its own code."""
    folder = subject.folder
    programs = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    mapped = [name for name in _WITH_AUTO_MAP if _has_auto_map(folder / name)]
    if programs or mapped:
        found = [*programs, *(f"auto_map in {name}" for name in mapped)]
        return CheckOutcome(
            "fail",
            f"the adapter brings remote code: {shortened(found)}",
            {"programs": programs, "auto_map": mapped},
            "remove the Python files and the auto_map entries; an adapter is data and is served without them",
        )
    pickles = [name for name in PICKLES if (folder / name).is_file()]
    if pickles and not (folder / WEIGHTS).exists():
        return CheckOutcome(
            "fail",
            f"the weights are only there as {pickles[0]}, a pickle that can run code when it is opened",
            {"weights": pickles[0]},
            f"convert them safely: python -m nbtoolkit.smoke.model_level.convert_pickle {folder}",
        )
    unused = f" that is used; {shortened(pickles)} is never opened or sent" if pickles else ""
    return CheckOutcome("pass", f"nothing in it is code or a pickle{unused}", {"unused_pickles": pickles})


def _has_auto_map(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False  # missing is fine here, and broken is A1's or the tokenizer's news
    return isinstance(content, dict) and bool(content.get("auto_map"))
