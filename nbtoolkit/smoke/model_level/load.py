"""A3, A4 and G1: peft supports the adapter's configuration, matches its keys and loads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nbtoolkit.models.base_model_files import CONFIG, GENERATION
from nbtoolkit.smoke.check import CheckOutcome, abbreviate, check, failure, passed, warning
from nbtoolkit.smoke.model_level.context import ModelContext
from nbtoolkit.smoke.model_level.failure_causes import quantization_method, quantized_base, unreadable_file
from nbtoolkit.smoke.model_level.peft_fields import installed_fields
from nbtoolkit.smoke.static.adapter_config import check_keys, peft_version


@check("A3", "model", "config")
def configuration(context: ModelContext) -> CheckOutcome:
    """Compare the configuration's keys with the installed peft, if the committed table lacks its version."""
    return check_keys(context.adapter_config, installed_fields(), f"peft {peft_version()}")


@check("A4", "model", "base match")
def base_match(context: ModelContext) -> CheckOutcome:
    """Match the adapter's keys and shapes with the base on the meta device, as peft converts the keys."""
    context.report("matching the adapter's keys with the base")
    remedy = "give the base that it was trained on"
    if trained_on := context.adapter_config.get("base_model_name_or_path"):
        remedy += f", {trained_on}"
    try:
        missing, unexpected = _match_on_meta(context)
    except RuntimeError as error:
        wrong = re.findall(r"size mismatch for (\S+):.*?\[([\d, ]*)\].*?\[([\d, ]*)\]", str(error), re.S)
        if not wrong:
            raise
        shapes = {name: f"[{found}] in the file, [{wanted}] in the base" for name, found, wanted in wrong}
        first = next(iter(shapes.items()))
        return failure(
            f"{len(shapes)} shapes differ, {first[0]}: {first[1]}", {"wrong_shapes": shapes}, remedy
        )
    evidence = {"missing": missing[:50], "unexpected": unexpected[:50]}
    if unexpected:
        return failure(
            f"{len(unexpected)} keys do not exist in this base: {abbreviate(unexpected, 3)}", evidence, remedy
        )
    if missing:
        return warning(
            f"{len(missing)} keys of the configuration are not in the file: {abbreviate(missing, 3)}",
            evidence,
            "save the adapter again, or remove the names from target_modules",
        )
    return passed("every key and shape matches the base", evidence)


@check("G1", "model", "load")
def load(context: ModelContext) -> CheckOutcome:
    """Load base and adapter in the serving precision and check the keys that peft ignores silently."""
    if context.device.problem:
        return failure(
            f"the GPU is not used: {context.device.problem}",
            {"device": context.device.name},
            "repair the GPU's driver or install torch for it; set CUDA_VISIBLE_DEVICES= to test on the CPU",
        )
    context.report(f"loading base and adapter in {context.dtype} on {context.device.name}")
    base = Path(context.task.base_path)
    if broken := unreadable_file((base / CONFIG, base / GENERATION)):  # transformers ignores a broken one
        return failure(broken.message, remedy=broken.next_step)
    model = context.model
    method = quantization_method(base)
    if method and not getattr(model.get_base_model(), "is_quantized", False):
        return quantized_base(
            method, context.task, "transformers dequantizes it, because this device does not support it"
        )
    missing = list(context.load_result.missing_keys)
    unexpected = list(context.load_result.unexpected_keys)
    status = model.get_model_status()
    ratios = norm_ratios(model, context.adapter_name)
    highest = dict(sorted(ratios.items(), key=lambda pair: -pair[1])[:10])
    evidence: dict[str, Any] = {
        "device": context.device.name,
        "dtype": context.dtype,
        "missing": missing[:50],
        "unexpected": unexpected[:50],
        "enabled": status.enabled,
        "active": status.active_adapters,
        "layers": status.num_adapter_layers,
        "highest_norm_ratios": highest,
        "norm_ratios": ratios,
    }
    if missing or unexpected:
        return failure(
            f"{len(missing)} keys are missing and {len(unexpected)} unexpected: "
            f"{abbreviate([*missing, *unexpected], 3)}",
            evidence,
            "save the adapter again from the trained model; without these keys it is another adapter",
        )
    if status.enabled is not True or status.active_adapters != [context.adapter_name]:
        return failure(
            f"the adapter is not active: enabled {status.enabled}, active {status.active_adapters}",
            evidence,
            "check rank_pattern, layers_to_transform and target_modules in adapter_config.json",
        )
    limit = context.settings.norm_warn
    if strong := [name for name, ratio in ratios.items() if ratio > limit]:
        name, ratio = next(iter(highest.items()))
        return warning(
            f"‖BA‖·s/‖W‖ is above {limit:g} in {len(strong)} modules, {ratio:.3g} in {name}",
            evidence,
            "check the answers (G4); a lower alpha or learning rate makes a weaker adapter",
        )
    top = max(ratios.values(), default=0.0)
    summary = f"loads in {context.dtype}, {status.num_adapter_layers} layers active, ‖BA‖·s/‖W‖ ≤ {top:.2g}"
    return passed(summary, evidence)


def _match_on_meta(context: ModelContext) -> tuple[list[str], list[str]]:
    """Return peft's missing and unexpected keys; raises what peft raises. Loads no weights."""
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    name = context.adapter_name
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(context.base_config)
        config = cast("LoraConfig", LoraConfig.from_pretrained(context.task.adapter_path))
        config.inference_mode = True
        config.init_lora_weights = False  # some initialisations read the base's weights
        model = PeftModel(base, config, adapter_name=name, autocast_adapter_dtype=False)
        with safe_open(f"{context.task.adapter_path}/adapter_model.safetensors", framework="pt") as file:
            state = {key: torch.empty(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        result = set_peft_model_state_dict(model, state, adapter_name=name, low_cpu_mem_usage=True)
    missing = [key for key in result.missing_keys if "lora_" in key and name in key]
    return missing, list(result.unexpected_keys)


def lora_layers(model: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the path in the base and the module of every layer with the adapter ``name``."""
    from peft.tuners.lora import LoraLayer

    for path, module in model.named_modules():
        if isinstance(module, LoraLayer) and (name in module.lora_A or name in module.lora_embedding_A):
            yield path.removeprefix("base_model.model."), module


def norm_ratios(model: Any, name: str) -> dict[str, float]:
    """Return ‖BA‖·s/‖W‖ of every module, Frobenius norms.

    ‖BA‖² is the trace of (BᵀB)(AAᵀ), so no product is larger than rank × rank.
    """
    ratios: dict[str, float] = {}
    for path, module in lora_layers(model, name):
        a, b = _pair(module, name)
        with torch.inference_mode():
            square = torch.sum((b.T @ b) * (a @ a.T).T)
            weight = float(torch.linalg.vector_norm(_weight(module).float()))
        norm = float(square.clamp(min=0).sqrt()) * abs(float(module.scaling[name]))
        ratios[path] = norm / weight if weight else float("inf")
    return ratios


def _pair(module: Any, name: str) -> tuple[Tensor, Tensor]:
    if name in module.lora_embedding_A:
        a, b = module.lora_embedding_A[name], module.lora_embedding_B[name]
    else:
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
    a, b = a.detach().double(), b.detach().double()
    return a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)


def _weight(module: Any) -> Tensor:
    from peft.utils.integrations import dequantize_module_weight

    base = module.get_base_layer()
    if hasattr(getattr(base, "weight", None), "quant_state"):
        return dequantize_module_weight(base)
    parameter = getattr(module, "parameter_name", "weight")  # stacked experts have other parameters
    return getattr(base, parameter).detach()
