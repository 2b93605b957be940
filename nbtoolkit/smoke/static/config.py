"""A3: a configuration that the serving peft understands to the last key."""

from __future__ import annotations

import difflib
from typing import Any

from nbtoolkit.smoke import peft_config_table as peft_keys
from nbtoolkit.smoke.check import CheckOutcome, check, shortened
from nbtoolkit.smoke.context import Subject

_ALSO_FLOAT = {"lora_alpha"}  # annotated int; a float works and is common
_DROPPED = {"runtime_config", "auto_map"}  # peft drops the first with a warning; A2 fails the second


@check("A3", "static", "config")
def configuration(subject: Subject) -> CheckOutcome:
    """Ask for a causal LoRA with keys and types that the serving peft knows, from the committed table."""
    config = subject.config
    if config is None:
        return CheckOutcome(
            "fail",
            "adapter_config.json is missing or is no JSON object",
            remedy="save the adapter again with peft's save_pretrained",
        )
    if wrong := _wrong_kind(config):
        return CheckOutcome("fail", wrong, {"config": _main_facts(config)}, _KIND_REMEDY)
    version = peft_keys.serving_version()
    known = peft_keys.table().get(version or "")
    if known is None:
        return CheckOutcome(
            "undecided",
            f"the table of known keys has no peft {version}; the model level asks peft itself",
            {"peft": version, "table": sorted(peft_keys.table())},
        )
    return judge(config, known, f"peft {version}")


def judge(config: dict[str, Any], known: peft_keys.Known, who: str) -> CheckOutcome:
    """Judge a configuration's keys and types against what one peft version knows."""
    unknown = {key: value for key, value in config.items() if key not in known and key not in _DROPPED}
    harmless = sorted(key for key, value in unknown.items() if _is_default(key, value))
    harmful = sorted(unknown.keys() - set(harmless))
    mistyped = {
        key: f"{peft_keys.json_type(value)} instead of {' or '.join(known[key]['types'])}"
        for key, value in config.items()
        if key in known and not _type_fits(key, value, known[key]["types"])
    }
    evidence = {
        "keys": len(config),
        "known_to": who,
        "unknown": harmful,
        "unknown_default": harmless,
        "mistyped": mistyped,
        **_main_facts(config),
    }
    if harmful:
        near = [
            f"{key} (did you mean {match[0]}?)" if match else key for key, match in _nearest(harmful, known)
        ]
        saved = f" The adapter was saved by peft {v}." if (v := config.get("peft_version")) else ""
        return CheckOutcome(
            "fail",
            f"{who} does not know {shortened(near)} and would ignore it silently",
            evidence,
            f"serve with the peft that wrote it, or remove the key if it has no effect.{saved}",
        )
    if mistyped:
        found = [f"{key} is {what}" for key, what in mistyped.items()]
        return CheckOutcome(
            "fail", f"wrong type: {shortened(found)}", evidence, "correct the value in adapter_config.json"
        )
    if harmless:
        return CheckOutcome(
            "warn",
            f"{who} does not know {shortened(harmless)}; at their default they have no effect",
            evidence,
            "nothing to do, unless the training relied on them",
        )
    return CheckOutcome("pass", f"LoRA r={config['r']}, all {len(config)} keys known to {who}", evidence)


_KIND_REMEDY = "only LoRA adapters for causal language models can be served; train or convert to one"


def _wrong_kind(config: dict[str, Any]) -> str:
    if config.get("peft_type") != "LORA":
        return f"peft_type is {config.get('peft_type')!r}, wanted 'LORA'"
    if config.get("task_type") != "CAUSAL_LM":
        return f"task_type is {config.get('task_type')!r}, wanted 'CAUSAL_LM'"
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank <= 0:
        return f"r is {rank!r}, wanted a whole number above 0"
    return ""


def _main_facts(config: dict[str, Any]) -> dict[str, Any]:
    names = ("peft_type", "task_type", "r", "lora_alpha", "target_modules", "use_rslora", "use_dora")
    return {name: config[name] for name in names if name in config}


def _is_default(key: str, value: Any) -> bool:
    """Whether a key that this peft does not know says nothing: empty, or the default of a peft that does."""
    if value is None or value is False or value in ({}, []):
        return True
    return any(key in known and known[key]["default"] == value for known in peft_keys.table().values())


def _type_fits(key: str, value: Any, types: list[str]) -> bool:
    if value is None:
        return "null" in types or types == ["object"]  # an empty nested configuration was once written so
    return peft_keys.fits(value, [*types, "number"] if key in _ALSO_FLOAT else types)


def _nearest(keys: list[str], known: peft_keys.Known) -> list[tuple[str, list[str]]]:
    return [(key, difflib.get_close_matches(key, known, n=1)) for key in keys]
