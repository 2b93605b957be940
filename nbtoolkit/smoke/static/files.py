"""A1 and A2: the right files, whole, and nothing in them that runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nbtoolkit.errors import InvalidAdapter
from nbtoolkit.smoke.check import Outcome, check, shortened
from nbtoolkit.smoke.static.keys import lora_tensor
from nbtoolkit.smoke.subject import Subject

WEIGHTS = "adapter_model.safetensors"
PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_WITH_AUTO_MAP = ("adapter_config.json", "config.json", "tokenizer_config.json", "processor_config.json")
_LARGE = 50 * 1024**2


@check("A1", "static", "files")
def adapter_files(subject: Subject) -> Outcome:
    """Ask for a configuration and one whole weight file with tensors in it."""
    folder = subject.folder
    if not folder.is_dir():
        return Outcome(
            "fail",
            f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist",
            remedy="give the folder that holds adapter_config.json and adapter_model.safetensors",
        )
    sharded = sorted(
        path.name for path in folder.glob("adapter_model*") if re.search(r"-of-\d+|index\.json$", path.name)
    )
    if sharded:
        return Outcome(
            "fail",
            f"the weights are sharded ({shortened(sharded)}); neither peft nor vLLM reads that",
            {"files": sharded},
            "save the adapter again in one file: model.save_pretrained(folder, max_shard_size='100GB')",
        )
    if isinstance(subject.read, InvalidAdapter) and not _only_pickles(folder):
        error = subject.read
        return Outcome("fail", error.message, remedy=error.next_step)
    if isinstance(subject.read, InvalidAdapter):
        pickle = next(name for name in PICKLES if (folder / name).is_file())
        return Outcome("pass", f"configuration and one weight file, {pickle}; see A2", {"weights": pickle})
    adapter = subject.read
    size = adapter.weights.stat().st_size
    beside = {
        name: info.end - info.start for name, info in adapter.tensors.items() if lora_tensor(name) is None
    }
    evidence = {"tensors": len(adapter.tensors), "bytes": size, "rank": adapter.rank, "beside_lora": beside}
    summary = f"{len(adapter.tensors)} tensors, {size:,} bytes, rank {adapter.rank}"
    if sum(beside.values()) > max(_LARGE, size // 2) or size > subject.base.weight_bytes:
        what = f": {shortened(sorted(beside))} beside the LoRA matrices" if beside else ""
        return Outcome(
            "warn",
            f"{summary}; far larger than expected{what}",
            evidence,
            "save without whole modules (save_embedding_layers=False, no modules_to_save) unless trained",
        )
    return Outcome("pass", summary, evidence)


@check("A2", "static", "safe format")
def safe_format(subject: Subject) -> Outcome:
    """Refuse pickled weights and anything that brings its own code."""
    folder = subject.folder
    programs = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    mapped = [name for name in _WITH_AUTO_MAP if _has_auto_map(folder / name)]
    if programs or mapped:
        found = [*programs, *(f"auto_map in {name}" for name in mapped)]
        return Outcome(
            "fail",
            f"the adapter brings remote code: {shortened(found)}",
            {"programs": programs, "auto_map": mapped},
            "remove the Python files and the auto_map entries; an adapter is data and is served without them",
        )
    if _only_pickles(folder):
        pickle = next(name for name in PICKLES if (folder / name).is_file())
        return Outcome(
            "fail",
            f"the weights are only there as {pickle}, a pickle that can run code when it is opened",
            {"weights": pickle},
            f"convert them safely: python -m nbtoolkit.smoke.to_safetensors {folder}",
        )
    left = sorted(name for name in PICKLES if (folder / name).is_file())
    summary = f"{WEIGHTS}, no program" + (f"; {shortened(left)} is never opened or sent" if left else "")
    return Outcome("pass", summary, {"unused_pickles": left})


def _only_pickles(folder: Path) -> bool:
    return not (folder / WEIGHTS).exists() and any((folder / name).is_file() for name in PICKLES)


def _has_auto_map(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False  # missing is fine here, and broken is A1's or the tokenizer's news
    return isinstance(content, dict) and bool(content.get("auto_map"))
