"""A1, A2 and A3: the adapter's files are complete and free of code, and peft supports its configuration.

The committed table ``peft_keys.json`` holds the keys of each peft version;
``python -m nbtoolkit.smoke.model_level.peft_fields`` adds the installed version.
"""

from __future__ import annotations

import difflib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from nbtoolkit.errors import InvalidAdapter
from nbtoolkit.models.adapter import WEIGHTS
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, abbreviate, check, failure, passed, warning
from nbtoolkit.smoke.static.base_match import lora_tensor

PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_WITH_AUTO_MAP = ("adapter_config.json", "config.json", "tokenizer_config.json", "processor_config.json")
_LARGE = 50 * 1024**2

PEFT_KEYS = Path(__file__).with_name("peft_keys.json")

KnownKeys = dict[str, dict[str, Any]]
"""Config key → ``types`` (JSON type names) and ``default``."""

JSON_NAMES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
}

_ALSO_FLOAT = {"lora_alpha"}  # annotated int; a float works and is common
_DROPPED = {"runtime_config", "auto_map"}  # peft drops the first with a warning; A2 fails the second


@check("A1", "static", "files")
def adapter_files(context: SmokeContext) -> CheckOutcome:
    """Require a configuration and one complete weights file that contains tensors."""
    if isinstance(context.read_result, InvalidAdapter):
        error = context.read_result
        if error.check == "A2":
            return passed("a configuration and a weights file; see A2 for its format")
        return failure(error.problem or error.message, remedy=error.next_step)
    adapter = context.read_result
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
    return passed(summary, evidence)


@check("A2", "static", "safe format")
def safe_format(context: SmokeContext) -> CheckOutcome:
    """Refuse pickled weights and remote code."""
    folder = context.folder
    programs = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    mapped = [name for name in _WITH_AUTO_MAP if _has_auto_map(folder / name)]
    if programs or mapped:
        names = [*programs, *(f"auto_map in {name}" for name in mapped)]
        return failure(
            f"the adapter contains remote code: {abbreviate(names)}",
            {"programs": programs, "auto_map": mapped},
            "remove the Python files and the auto_map entries; an adapter is data and is served without them",
        )
    pickles = [name for name in PICKLES if (folder / name).is_file()]
    if pickles and not (folder / WEIGHTS).exists():
        return failure(
            f"the only weights are {pickles[0]}, a pickle, which can run code when it is opened",
            {"weights": pickles[0]},
            f"convert them safely: python -m nbtoolkit.smoke.model_level.convert_pickle {folder}",
        )
    unused = f"; {abbreviate(pickles)} is never opened or sent" if pickles else ""
    return passed(f"no code and no pickle is used{unused}", {"unused_pickles": pickles})


def _has_auto_map(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False  # the file may be missing; A1 or the tokenizer's check reports a broken one
    return isinstance(content, dict) and bool(content.get("auto_map"))


def peft_version() -> str | None:
    """Return the version of the installed peft, without importing it; None if it is not installed."""
    try:
        return metadata.version("peft")
    except metadata.PackageNotFoundError:
        return None


def peft_key_table() -> dict[str, KnownKeys]:
    """Return the committed table: peft version → its config keys."""
    return json.loads(PEFT_KEYS.read_text(encoding="utf-8"))


@check("A3", "static", "config")
def configuration(context: SmokeContext) -> CheckOutcome:
    """Require a causal LoRA whose keys and types the serving peft supports, by the committed table."""
    config = context.config
    if config is None:
        return failure(
            "adapter_config.json is missing or is not a JSON object",
            remedy="save the adapter again with peft's save_pretrained",
        )
    if problem := _wrong_kind(config):
        return failure(problem, {"config": _main_facts(config)}, _KIND_REMEDY)
    version = peft_version()
    known = peft_key_table().get(version or "")
    if known is None:
        return CheckOutcome(
            "undecided",
            f"the table of known keys has no peft {version}; the model level checks with peft itself",
            {"peft": version, "table": sorted(peft_key_table())},
        )
    return check_keys(config, known, f"peft {version}")


def check_keys(config: dict[str, Any], known: KnownKeys, peft: str) -> CheckOutcome:
    """Compare a configuration's keys and types with those of one peft version."""
    unknown = {key: value for key, value in config.items() if key not in known and key not in _DROPPED}
    harmless = sorted(key for key, value in unknown.items() if _is_default(key, value))
    harmful = sorted(unknown.keys() - set(harmless))
    mistyped = {
        key: f"{_json_type(value)} instead of {' or '.join(known[key]['types'])}"
        for key, value in config.items()
        if key in known and not _type_fits(key, value, known[key]["types"])
    }
    evidence = {
        "keys": len(config),
        "known_to": peft,
        "unknown": harmful,
        "unknown_default": harmless,
        "mistyped": mistyped,
        **_main_facts(config),
    }
    if harmful:
        nearest = [(key, difflib.get_close_matches(key, known, n=1)) for key in harmful]
        names = [f"{key} (did you mean {match[0]}?)" if match else key for key, match in nearest]
        saved = f" The adapter was saved by peft {v}." if (v := config.get("peft_version")) else ""
        return failure(
            f"{peft} does not know {abbreviate(names)} and would ignore it silently",
            evidence,
            f"serve with the peft that wrote it, or remove the key if it has no effect.{saved}",
        )
    if mistyped:
        problems = [f"{key} is {types}" for key, types in mistyped.items()]
        return failure(
            f"wrong type: {abbreviate(problems)}", evidence, "correct the value in adapter_config.json"
        )
    if harmless:
        return warning(
            f"{peft} does not know {abbreviate(harmless)}; at their default they have no effect",
            evidence,
            "nothing to do, unless the training relied on them",
        )
    return passed(f"LoRA r={config['r']}, all {len(config)} keys known to {peft}", evidence)


_KIND_REMEDY = "only LoRA adapters for causal language models can be served; train or convert to one"


def _wrong_kind(config: dict[str, Any]) -> str:
    if config.get("peft_type") != "LORA":
        return f"peft_type is {config.get('peft_type')!r}, expected 'LORA'"
    if config.get("task_type") != "CAUSAL_LM":
        return f"task_type is {config.get('task_type')!r}, expected 'CAUSAL_LM'"
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank <= 0:
        return f"r is {rank!r}, expected a whole number above 0"
    return ""


def _main_facts(config: dict[str, Any]) -> dict[str, Any]:
    names = ("peft_type", "task_type", "r", "lora_alpha", "target_modules", "use_rslora", "use_dora")
    return {name: config[name] for name in names if name in config}


def _is_default(key: str, value: Any) -> bool:
    """Whether an unknown key has no effect: empty, or at the default of a peft version that has it."""
    if value is None or value is False or value in ({}, []):
        return True
    return any(key in known and known[key]["default"] == value for known in peft_key_table().values())


def _type_fits(key: str, value: Any, types: list[str]) -> bool:
    if value is None:
        return "null" in types or types == ["object"]  # old versions wrote null for a nested configuration
    name = _json_type(value)
    return (
        name in types
        or (name == "integer" and "number" in types)
        or (key in _ALSO_FLOAT and name in ("integer", "number"))
    )


def _json_type(value: Any) -> str:
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else JSON_NAMES[type(value)]
