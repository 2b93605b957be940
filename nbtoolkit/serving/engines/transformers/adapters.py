"""Load and unload adapters, and activate one for the next forward pass."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from safetensors import safe_open

from ...engine_rules import EngineInput, findings
from ...openai_format import ApiError
from .cpu_kernels import fuse, repack

WEIGHTS = "adapter_model.safetensors"
_MAX_LISTED = 5
"""Maximum number of keys in an error message."""


class Adapters:
    """The adapters in a model; used by the scheduler's thread between steps.

    The model is a plain one until the first adapter is loaded and again after the last is unloaded, so that
    a base alone has no extra cost. peft replaces layers inside the model: the model itself is called, never
    peft's wrapper.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._peft: PeftModel | None = None
        self._names: list[str] = []
        self.retiring: set[str] = set()
        """Adapters to be unloaded after their last answer."""
        self._layers: list[Any] = []
        self._wrappers: list[Any] = []
        self._active: str | None = None

    @property
    def names(self) -> list[str]:
        """The loaded adapters, oldest first."""
        return list(self._names)

    def activate(self, name: str | None) -> None:
        """Activate an adapter for the next forward pass, or the base for None; cheap if unchanged."""
        if name == self._active:
            return
        # Set directly: peft's methods also switch gradients on and off, 3 ms for 120 layers per call.
        for layer in self._layers:
            layer._active_adapter = [name]
            layer._disable_adapters = name is None
        for wrapper in self._wrappers:
            available = name in wrapper._adapters  # a module that only some adapters save
            wrapper.set_adapter([name] if available else [], inference_mode=True)
            wrapper.enable_adapters(available)
        self._active = name

    def load(self, name: str, folder: Path) -> None:
        """Load an adapter from its folder; raise ApiError with the reason, and change nothing then."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ApiError(
                f"The adapter name {name!r} is not usable: use letters, digits, _ and - only.",
                param="lora_name",
            )
        if name in self._names:
            raise ApiError(f"The lora adapter '{name}' has already been loaded.", param="lora_name")
        config = _checked_config(folder)
        self._refuse_changed_base(folder, config)
        self.activate(None)
        options: dict[str, Any] = {"autocast_adapter_dtype": False, "low_cpu_mem_usage": True}
        try:
            if self._peft is None:
                self._peft = PeftModel(self._model, config, adapter_name=name, **options)
            else:
                self._peft.add_adapter(name, config, **options)
            device = str(self._model.device)
            result = self._peft.load_adapter(str(folder), name, torch_device=device, **options)
            missing, unexpected = sorted(result.missing_keys), sorted(result.unexpected_keys)
            if missing or unexpected:
                kinds = {"missing": missing, "unexpected": unexpected}
                parts = [f"{len(keys)} {kind} ({_listed(keys)})" for kind, keys in kinds.items() if keys]
                raise _refused(
                    f"The keys of the adapter in {folder} do not fit this base: {'; '.join(parts)}.",
                    missing_keys=missing,
                    unexpected_keys=unexpected,
                )
        except Exception as error:
            self._drop(name)
            if isinstance(error, ApiError):
                raise
            if isinstance(error, torch.cuda.OutOfMemoryError):
                place = self._model.device
                raise ApiError(f"There is no memory left on {place} for the adapter in {folder}.") from None
            text = " ".join(str(error).split())[:1000]
            raise _refused(
                f"The adapter in {folder} does not fit this base: {type(error).__name__}: {text}"
            ) from error
        self._names.append(name)
        self._refresh_layers()
        for wrapper in self._wrappers:  # often saved in float32; their inputs have the base's dtype
            _cast_saved(wrapper, name)
        repack(self._model)

    def cancel_unload(self, name: str) -> bool:
        """Keep an adapter that was going to be unloaded; return whether there was one."""
        was_retiring = name in self.retiring
        self.retiring.discard(name)
        return was_retiring

    def unload(self, name: str) -> None:
        """Remove an adapter and free its memory."""
        self.retiring.discard(name)
        self._names.remove(name)
        self._drop(name)

    def _refuse_changed_base(self, folder: Path, config: PeftConfig) -> None:
        """Refuse a file with other values for the base's own tensors: peft would write them into the base.

        Modules in ``modules_to_save`` are loaded into copies, biases of LoRA layers into B.
        """
        saved: list[str] = list(getattr(config, "modules_to_save", None) or ())
        own = {
            name.replace(".base_layer.", ".").replace(".original_module.", "."): parameter
            for name, parameter in self._model.named_parameters()
        }
        changed: list[str] = []
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                name = key.removeprefix("base_model.model.").replace(".base_layer.", ".")
                parameter = own.get(name)
                if parameter is None or _in_saved_module(name, saved):
                    continue
                values = file.get_tensor(key).to(parameter.device, parameter.dtype)
                if not torch.equal(values, parameter):
                    changed.append(key)
        if changed:
            kind = "biases" if all(key.endswith(".bias") for key in changed) else "tensors"
            raise _refused(
                f"The adapter in {folder} changes {len(changed)} {kind} of the base itself "
                f"({_listed(changed)}): every other answer of this base would change too. Train it again "
                'with bias="none" and whole modules in modules_to_save, or merge it into the base and deploy '
                "the result as a base model."
            )

    def _drop(self, name: str) -> None:
        if self._peft is not None:
            self._deactivate()  # if an adapter is active, peft leaves its saved modules in the base
            tuner: Any = self._peft.base_model
            if not self._names:
                tuner.unload()
                for leftover in ("peft_config", "_hf_peft_config_loaded"):
                    self._model.__dict__.pop(leftover, None)
                self._peft = None
            elif name in self._peft.peft_config:
                # Another one is activated first: else peft warns that it had to choose one.
                tuner.set_adapter(next(n for n in self._names if n != name), inference_mode=True)
                self._peft.delete_adapter(name)
                _unwrap(self._model)
        self._refresh_layers()

    def _refresh_layers(self) -> None:
        """List peft's layers, switch all of them off and fuse them."""
        self._deactivate()
        for layer in self._layers:
            fuse(layer)

    def _deactivate(self) -> None:
        """List peft's layers, also those of a partly loaded adapter, and switch all of them off."""
        modules = list(self._model.modules())
        self._layers = [module for module in modules if isinstance(module, BaseTunerLayer)]
        self._wrappers = [module for module in modules if isinstance(module, AuxiliaryTrainingWrapper)]
        self._model.eval()
        self._active = ""
        self.activate(None)


def _unwrap(model: Any) -> None:
    """Put the base's modules back in the place of wrappers that no longer hold an adapter.

    peft leaves them, and cannot wrap a module in two ways: the next adapter may need another one.
    """
    tuners: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    others: list[Any] = [module for module in model.modules() if isinstance(module, AuxiliaryTrainingWrapper)]
    inside = {wrapper: wrapper.base_layer for wrapper in tuners if not wrapper._get_available_adapters()}
    inside |= {wrapper: wrapper.original_module for wrapper in others if not wrapper._adapters}
    for parent in [module for module in model.modules() if module not in [*tuners, *others]]:
        for name, child in parent.named_children():
            inner = child
            while inner in inside:
                inner = inside[inner]
            if inner is not child:
                setattr(parent, name, inner)


def _in_saved_module(name: str, saved: list[str]) -> bool:
    """Return whether a tensor is in a saved module; as in peft, a name selects all paths that end with it."""
    parts = name.split(".")
    paths = [".".join(parts[:count]) for count in range(1, len(parts))]
    return any(path.endswith(module) for path in paths for module in saved)


def _cast_saved(wrapper: Any, name: str) -> None:
    """Cast the module that an adapter saved to the dtype of the base's own, as peft does by default."""
    saved = getattr(wrapper, "modules_to_save", {})
    dtype = next((value.dtype for value in wrapper.original_module.parameters()), None)
    if name in saved and dtype is not None:
        saved[name].to(dtype)


def _checked_config(folder: Path) -> PeftConfig:
    """Read the adapter's config and refuse what this engine cannot serve."""
    for name in ("adapter_config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise _refused(f"{folder} does not contain {name}.")
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except Exception as error:
        raise _refused(f"peft cannot read {folder / 'adapter_config.json'}: {error}") from error
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if kind != "LORA":
        raise _refused(f"{folder} is a {kind} adapter; only LORA is served.")
    content = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8-sig"))
    if found := findings(EngineInput(content), "transformers"):
        raise _refused(f"This engine cannot serve {folder}: {found[0]}. Next: {found[0].rule.remedy}.")
    config.inference_mode = True
    return config


def _refused(message: str, **details: list[str]) -> ApiError:
    return ApiError(message, param="lora_path", code="adapter_refused", details=details)


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - _MAX_LISTED} more" if len(keys) > _MAX_LISTED else ""
    return ", ".join(keys[:_MAX_LISTED]) + more
