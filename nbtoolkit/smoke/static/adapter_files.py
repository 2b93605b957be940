"""A1 and A2: the adapter's files are complete, in a safe format, and can be sent."""

from __future__ import annotations

import codecs
from pathlib import Path

from nbtoolkit.errors import BrokenFile, InvalidAdapter, SyncRefused
from nbtoolkit.models.adapter import CONFIG, WEIGHTS, repair_command
from nbtoolkit.models.adapter_keys import lora_tensor
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, abbreviate, check, failure, passed, warning
from nbtoolkit.sync.scan import check_files
from nbtoolkit.utils.json_file import read_object

PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_SENT = (CONFIG, "tokenizer_config.json")
_NOT_SENT = ("config.json", "processor_config.json")
_LARGE = 50 * 1024**2


@check("A1", "static", "files")
def adapter_files(context: SmokeContext) -> CheckOutcome:
    """Require a configuration and one complete weights file that contains tensors."""
    if isinstance(context.read_result, InvalidAdapter):
        error = context.read_result
        if error.check == "A2":
            return passed("a configuration and a weights file; see A2 for its format")
        return failure(error.problem or error.message, remedy=error.next_step)
    adapter = context.read_result
    _ = adapter.sha256  # reads every file, or raises
    try:
        check_files(adapter.named_files, adapter.path)
    except SyncRefused as error:
        name, reason = error.problems[0] if error.problems else ("a file", error.message)
        problems = [f"{name} {reason}" for name, reason in error.problems]
        remedy = f"write a copy without links: {repair_command(adapter.path)}"
        return failure(f"{name} {reason}", {"problems": problems}, remedy)
    size = adapter.weights.stat().st_size
    others = {name: info.size for name, info in adapter.tensors.items() if lora_tensor(name) is None}
    evidence = {"tensors": len(adapter.tensors), "bytes": size, "beside_lora": others}
    summary = f"{len(adapter.tensors)} tensors, {size:,} bytes, rank {adapter.config.get('r')}"
    if sum(others.values()) > max(_LARGE, size // 2) or size > context.base.weight_bytes:
        names = f": {abbreviate(sorted(others))} in addition to the LoRA matrices" if others else ""
        return warning(
            f"{summary}; far larger than expected{names}",
            evidence,
            "save without whole modules (save_embedding_layers=False, no modules_to_save) unless trained",
        )
    with (adapter.path / CONFIG).open("rb") as file:
        if file.read(3) == codecs.BOM_UTF8:
            return warning(
                f"{summary}; {CONFIG} starts with a byte order mark, which peft itself refuses",
                evidence,
                f"nothing for serving, which removes it; for other tools: {repair_command(adapter.path)}",
            )
    return passed(summary, evidence)


@check("A2", "static", "safe format")
def safe_format(context: SmokeContext) -> CheckOutcome:
    """Refuse pickled weights; warn of remote code in a file that is sent, note code that is not."""
    folder = context.folder
    pickles = [name for name in PICKLES if (folder / name).is_file()]
    if pickles and not (folder / WEIGHTS).exists():
        return failure(
            f"the only weights are {pickles[0]}, a pickle, which can run code when it is opened",
            {"weights": pickles[0]},
            f"convert them safely: python -m nbtoolkit.smoke.model_level.convert_pickle {folder}",
        )
    unused = [
        *pickles,
        *sorted(path.name for path in folder.glob("*.py")),
        *(f"auto_map in {name}" for name in _NOT_SENT if _has_auto_map(folder / name)),
    ]
    note = f"; note: never opened, run or sent: {abbreviate(unused)}" if unused else ""
    if mapped := [name for name in _SENT if _has_auto_map(folder / name)]:
        return warning(
            f"{' and '.join(mapped)} names remote code (auto_map), which is never run{note}",
            {"auto_map": mapped, "unused": unused},
            "remove the auto_map entry: the files are used with transformers' own classes",
        )
    return passed(f"no code and no pickle is used{note}", {"unused": unused})


def _has_auto_map(path: Path) -> bool:
    try:
        return bool(read_object(path).get("auto_map"))
    except BrokenFile:
        return False  # the file may be missing; A1 or the tokenizer's check reports a broken one
