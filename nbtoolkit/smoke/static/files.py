"""A1 and A2: all adapter files are present and complete, and none of them contains code."""

from __future__ import annotations

import json
from pathlib import Path

from nbtoolkit.errors import InvalidAdapter
from nbtoolkit.models.adapter import WEIGHTS
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, abbreviate, check
from nbtoolkit.smoke.static.base_match import lora_tensor

PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_WITH_AUTO_MAP = ("adapter_config.json", "config.json", "tokenizer_config.json", "processor_config.json")
_LARGE = 50 * 1024**2


@check("A1", "static", "files")
def adapter_files(context: SmokeContext) -> CheckOutcome:
    """Require a configuration and one complete weights file that contains tensors."""
    if isinstance(context.read_result, InvalidAdapter):
        error = context.read_result
        if error.check == "A2":
            return CheckOutcome("pass", "a configuration and a weights file; see A2 for its format")
        return CheckOutcome("fail", error.problem or error.message, remedy=error.next_step)
    adapter = context.read_result
    size = adapter.weights.stat().st_size
    others = {name: info.size for name, info in adapter.tensors.items() if lora_tensor(name) is None}
    evidence = {"tensors": len(adapter.tensors), "bytes": size, "beside_lora": others}
    summary = f"{len(adapter.tensors)} tensors, {size:,} bytes, rank {adapter.config.get('r')}"
    if sum(others.values()) > max(_LARGE, size // 2) or size > context.base.weight_bytes:
        names = f": {abbreviate(sorted(others))} in addition to the LoRA matrices" if others else ""
        return CheckOutcome(
            "warn",
            f"{summary}; far larger than expected{names}",
            evidence,
            "save without whole modules (save_embedding_layers=False, no modules_to_save) unless trained",
        )
    return CheckOutcome("pass", summary, evidence)


@check("A2", "static", "safe format")
def safe_format(context: SmokeContext) -> CheckOutcome:
    """Refuse pickled weights and remote code."""
    folder = context.folder
    programs = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    mapped = [name for name in _WITH_AUTO_MAP if _has_auto_map(folder / name)]
    if programs or mapped:
        names = [*programs, *(f"auto_map in {name}" for name in mapped)]
        return CheckOutcome(
            "fail",
            f"the adapter contains remote code: {abbreviate(names)}",
            {"programs": programs, "auto_map": mapped},
            "remove the Python files and the auto_map entries; an adapter is data and is served without them",
        )
    pickles = [name for name in PICKLES if (folder / name).is_file()]
    if pickles and not (folder / WEIGHTS).exists():
        return CheckOutcome(
            "fail",
            f"the only weights are {pickles[0]}, a pickle, which can run code when it is opened",
            {"weights": pickles[0]},
            f"convert them safely: python -m nbtoolkit.smoke.model_level.convert_pickle {folder}",
        )
    unused = f"; {abbreviate(pickles)} is never opened or sent" if pickles else ""
    return CheckOutcome("pass", f"no code and no pickle is used{unused}", {"unused_pickles": pickles})


def _has_auto_map(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False  # the file may be missing; A1 or the tokenizer's check reports a broken one
    return isinstance(content, dict) and bool(content.get("auto_map"))
