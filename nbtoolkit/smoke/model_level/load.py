"""A3, A4 and G1: does peft understand, match and load the adapter?"""

from __future__ import annotations

import re
from typing import Any, cast

import torch

from nbtoolkit.smoke import peft_config_table as peft_keys
from nbtoolkit.smoke.check import CheckOutcome, check, shortened
from nbtoolkit.smoke.model_level.context import ModelSubject
from nbtoolkit.smoke.model_level.peft_fields import installed
from nbtoolkit.smoke.model_level.weights import norm_ratios
from nbtoolkit.smoke.static.config import judge

_PEFT_ERRORS = (ValueError, KeyError, TypeError, AttributeError, NotImplementedError)


@check("A3", "model", "config")
def configuration(subject: ModelSubject) -> CheckOutcome:
    """Judge the configuration's keys by the installed peft itself, where the committed table lacks it."""
    return judge(subject.adapter_config, installed(), f"peft {peft_keys.serving_version()}")


@check("A4", "model", "base match")
def base_match(subject: ModelSubject) -> CheckOutcome:
    """Put the adapter's keys and shapes on the base without weights, with peft's own conversion of keys."""
    subject.tell("matching the adapter's keys with the base")
    remedy = "give the base that it was trained on"
    if trained_on := subject.adapter_config.get("base_model_name_or_path"):
        remedy += f", {trained_on}"
    try:
        missing, unexpected = _match_on_meta(subject)
    except RuntimeError as error:
        wrong = re.findall(r"size mismatch for (\S+):.*?\[([\d, ]*)\].*?\[([\d, ]*)\]", str(error), re.S)
        if not wrong:
            return CheckOutcome("fail", f"peft refuses it: {str(error).splitlines()[0]}", remedy=remedy)
        shapes = {name: f"[{found}] in the file, [{wanted}] in the base" for name, found, wanted in wrong}
        first = next(iter(shapes.items()))
        return CheckOutcome(
            "fail", f"{len(shapes)} shapes differ, {first[0]}: {first[1]}", {"wrong_shapes": shapes}, remedy
        )
    except _PEFT_ERRORS as error:
        return CheckOutcome("fail", f"peft refuses it: {str(error).splitlines()[0]}", remedy=remedy)
    evidence = {"missing": missing[:50], "unexpected": unexpected[:50]}
    if unexpected:
        return CheckOutcome(
            "fail",
            f"{len(unexpected)} keys have no place in this base: {shortened(unexpected, 3)}",
            evidence,
            remedy,
        )
    if missing:
        return CheckOutcome(
            "warn",
            f"{len(missing)} places of the configuration are not in the file: {shortened(missing, 3)}",
            evidence,
            "save the adapter again, or remove the names from target_modules",
        )
    return CheckOutcome("pass", "every key and shape has its place in the base", evidence)


@check("G1", "model", "load")
def load(subject: ModelSubject) -> CheckOutcome:
    """Load base and adapter in the serving precision and read what peft reports silently."""
    subject.tell(f"loading base and adapter in {subject.dtype} on {subject.device.name}")
    try:
        model = subject.model
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, *_PEFT_ERRORS) as error:
        return CheckOutcome(
            "fail",
            f"it does not load: {type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="see the message; check that the adapter belongs to this base and this peft",
        )
    missing = list(subject.load_result.missing_keys)
    unexpected = list(subject.load_result.unexpected_keys)
    status = model.get_model_status()
    ratios = norm_ratios(model, subject.adapter_name)
    highest = dict(sorted(ratios.items(), key=lambda pair: -pair[1])[:10])
    evidence: dict[str, Any] = {
        "device": subject.device.name,
        "dtype": subject.dtype,
        "missing": missing[:50],
        "unexpected": unexpected[:50],
        "enabled": status.enabled,
        "active": status.active_adapters,
        "layers": status.num_adapter_layers,
        "highest_norm_ratios": highest,
    }
    if missing or unexpected:
        return CheckOutcome(
            "fail",
            f"{len(missing)} keys are missing and {len(unexpected)} unexpected: "
            f"{shortened([*missing, *unexpected], 3)}",
            evidence,
            "save the adapter again from the trained model; without these keys it is another adapter",
        )
    if status.enabled is not True or status.active_adapters != [subject.adapter_name]:
        return CheckOutcome(
            "fail",
            f"the adapter is not active: enabled {status.enabled}, active {status.active_adapters}",
            evidence,
            "check rank_pattern, layers_to_transform and target_modules in adapter_config.json",
        )
    if subject.device.problem:
        return CheckOutcome(
            "warn",
            f"tested on the CPU: {subject.device.problem}",
            evidence,
            "repair the GPU's driver or install torch for it; set CUDA_VISIBLE_DEVICES= to test on the CPU",
        )
    limit = subject.settings.norm_warn
    if strong := [name for name, ratio in ratios.items() if ratio > limit]:
        name, ratio = next(iter(highest.items()))
        return CheckOutcome(
            "warn",
            f"‖BA‖·s/‖W‖ is above {limit:g} in {len(strong)} modules, {ratio:.2f} in {name}",
            evidence,
            "see whether the answers hold up (G4); a lower alpha or rate makes a gentler adapter",
        )
    top = max(ratios.values(), default=0.0)
    summary = f"loads in {subject.dtype}, {status.num_adapter_layers} layers active, ‖BA‖·s/‖W‖ ≤ {top:.2g}"
    return CheckOutcome("pass", summary, evidence)


def _match_on_meta(subject: ModelSubject) -> tuple[list[str], list[str]]:
    """Return peft's missing and unexpected keys; raises what peft raises. Costs no weights."""
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    name = subject.adapter_name
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(subject.base_config)
        config = cast("LoraConfig", LoraConfig.from_pretrained(subject.task.adapter_path))
        config.inference_mode = True
        config.init_lora_weights = False  # initialisations that read the base have nothing to read here
        model = PeftModel(base, config, adapter_name=name, autocast_adapter_dtype=False)
        with safe_open(f"{subject.task.adapter_path}/adapter_model.safetensors", framework="pt") as file:
            state = {key: torch.empty(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        result = set_peft_model_state_dict(model, state, adapter_name=name, low_cpu_mem_usage=True)
    missing = [key for key in result.missing_keys if "lora_" in key and name in key]
    return missing, list(result.unexpected_keys)
