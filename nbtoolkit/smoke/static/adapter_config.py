"""A3: peft supports the adapter's configuration, and what it ignores has no effect.

The committed table ``peft_keys.json`` holds the keys of each peft version;
``python -m nbtoolkit.smoke.model_level.peft_fields`` adds the installed version. ``trainer_keys.json`` holds
the keys that trainers and people add and that only training reads.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from nbtoolkit.errors import InvalidAdapter
from nbtoolkit.models.adapter import Adapter, repair_command
from nbtoolkit.models.adapter_keys import fits_causal_lm, lora_pairs
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, abbreviate, check, failure, passed, warning

PEFT_KEYS = Path(__file__).with_name("peft_keys.json")
TRAINER_KEYS = Path(__file__).with_name("trainer_keys.json")

TASK_TYPES = frozenset(
    {"SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"}
)
"""The values of ``task_type`` that peft accepts; it raises for any other except null."""

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
_DROPPED = {"runtime_config", "auto_map"}  # peft drops the first with a warning; A2 warns of the second


def peft_version() -> str | None:
    """Return the version of the installed peft, without importing it; None if it is not installed."""
    try:
        return metadata.version("peft")
    except metadata.PackageNotFoundError:
        return None


def peft_key_table() -> dict[str, KnownKeys]:
    """Return the committed table: peft version → its config keys."""
    return json.loads(PEFT_KEYS.read_text(encoding="utf-8"))


@cache
def trainer_keys() -> dict[str, dict[str, Any]]:
    """Return the committed table: key, or pattern of keys, that only training reads → who writes it."""
    return json.loads(TRAINER_KEYS.read_text(encoding="utf-8"))


@check("A3", "static", "config")
def configuration(context: SmokeContext) -> CheckOutcome:
    """Require a causal LoRA whose keys and types the serving peft supports, by the committed table."""
    adapter = context.adapter
    if problem := _wrong_kind(adapter):
        return problem
    version = peft_version()
    known = peft_key_table().get(version or "")
    if known is None:
        outcome = CheckOutcome(
            "undecided",
            f"the table of known keys has no peft {version}; the model level checks with peft itself",
            {"peft": version, "table": sorted(peft_key_table())},
        )
    else:
        outcome = check_keys(dict(adapter.config), known, f"peft {version}")
    task = adapter.config.get("task_type")
    if task == "CAUSAL_LM" or outcome.verdict == "fail":
        return outcome
    found = f"task_type is {task!r}" if task else "task_type is missing"
    return warning(
        f"{found}, although every key fits a causal language model: the right value is 'CAUSAL_LM'"
        + (f"; {outcome.summary}" if outcome.verdict != "pass" else ""),
        outcome.evidence,
        f"nothing for serving; other tools need it: {repair_command(adapter.path)}",
    )


def check_keys(config: dict[str, Any], known: KnownKeys, peft: str) -> CheckOutcome:
    """Compare a configuration's keys and types with those of one peft version."""
    unknown = {key: value for key, value in config.items() if key not in known and key not in _DROPPED}
    noted = {key: who for key, value in unknown.items() if (who := _written_by(key, value))}
    harmless = sorted(key for key, value in unknown.items() if key not in noted and _is_default(key, value))
    harmful = sorted(unknown.keys() - set(harmless) - noted.keys())
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
        "no_effect": noted,
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
    note = f"; note: {abbreviate(sorted(noted))} only matter for training" if noted else ""
    return passed(f"LoRA r={config['r']}, {len(config) - len(noted)} keys known to {peft}{note}", evidence)


_KIND_REMEDY = "only LoRA adapters for causal language models can be served; train or convert to one"


def _wrong_kind(adapter: Adapter) -> CheckOutcome | None:
    """Return the failure of an adapter that peft cannot load as a LoRA of a causal language model."""
    config, evidence = adapter.config, {"config": _main_facts(adapter.config)}
    repair = f"write a repaired copy: {repair_command(adapter.path)}"
    fits = fits_causal_lm(adapter.tensors)
    kind, task = config.get("peft_type"), config.get("task_type")
    if kind != "LORA":
        repairable = fits and (kind is None or str(kind).upper() == "LORA")
        problem = f"peft_type is {kind!r}, expected 'LORA'"
        return failure(problem, evidence, repair if repairable else _KIND_REMEDY)
    if task != "CAUSAL_LM" and lora_pairs(adapter.tensors) and not fits:
        problem = f"task_type is {task!r}, and the tensors do not belong to a causal language model"
        return failure(problem, evidence, _KIND_REMEDY)
    if task is not None and task not in TASK_TYPES:
        return failure(f"task_type is {task!r}, which peft refuses; expected 'CAUSAL_LM'", evidence, repair)
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank <= 0:
        return failure(f"r is {rank!r}, expected a whole number above 0", evidence, _KIND_REMEDY)
    try:
        _ = adapter.rank
    except InvalidAdapter as error:
        return failure(error.problem, evidence, error.next_step)
    return None


def _main_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    names = ("peft_type", "task_type", "r", "lora_alpha", "target_modules", "use_rslora", "use_dora")
    return {name: config[name] for name in names if name in config}


def _written_by(key: str, value: Any) -> str:
    """Return who writes a key that only training reads; an empty text for any other key."""
    for pattern, entry in trainer_keys().items():
        if fnmatchcase(key, pattern) and value in entry.get("no_effect_if", [value]):
            return f"{entry['written_by']}: {entry['use']}"
    return ""


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
