"""Base and adapter, loaded on first use, and the device of the model checks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nbtoolkit.serving.dtype import cpu_has_bfloat16, serving_dtype
from nbtoolkit.smoke.model_level.forward import GENERIC, render_prompts
from nbtoolkit.smoke.model_level.messages import ModelTask
from nbtoolkit.smoke.settings import SmokeSettings


@dataclass(frozen=True)
class Device:
    """A torch device; ``problem`` is the reason if the machine has a GPU that is not used."""

    kind: str
    name: str
    has_bfloat16: bool
    problem: str = ""


def choose_device(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Device:
    """Return the GPU if it computes, else the CPU, with the reason if the machine has a GPU.

    A GPU that ``CUDA_VISIBLE_DEVICES`` hides counts as absent: the user hid it.
    """
    if torch.cuda.is_available():
        try:
            torch.ones(2, device="cuda").sum().item()
        except RuntimeError as error:
            return _cpu(f"the GPU fails to compute: {str(error).splitlines()[0]}")
        modern = torch.cuda.get_device_capability() >= (8, 0)
        return Device("cuda", torch.cuda.get_device_name(), modern)
    hidden = environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not _has_gpu(root):
        return _cpu("")
    if torch.version.cuda is None:
        return _cpu("there is a GPU, but this torch is built without CUDA")
    return _cpu(f"there is a GPU, but no driver that this torch (CUDA {torch.version.cuda}) can use")


@dataclass
class ModelContext:
    """One adapter on one base; ``report(text, done, total)`` reports progress."""

    task: ModelTask
    report: Callable[..., None]
    device: Device = field(default_factory=choose_device)
    load_result: Any = None

    @cached_property
    def settings(self) -> SmokeSettings:
        """The smoke settings."""
        return self.task.smoke_settings

    @property
    def adapter_name(self) -> str:
        """The adapter's name in peft, the same as in the engine."""
        return f"a_{self.task.adapter_sha256[:16]}"

    @cached_property
    def base_config(self) -> Any:
        """The base's configuration, as transformers parses it."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.task.base_path, local_files_only=True)

    @cached_property
    def dtype(self) -> str:
        """The precision that will serve."""
        saved = getattr(self.base_config, "dtype", None)
        return serving_dtype(
            self.settings.dtype,
            device=self.device.kind,
            saved=str(saved).removeprefix("torch.") if saved else None,
            has_bfloat16=self.device.has_bfloat16,
        )

    @cached_property
    def adapter_config(self) -> dict[str, Any]:
        """The content of ``adapter_config.json``."""
        return json.loads((Path(self.task.adapter_path) / "adapter_config.json").read_bytes())

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer in force, with the template in force."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.task.tokenizer_path, local_files_only=True)
        if self.task.chat_template is not None:
            tokenizer.chat_template = self.task.chat_template
        return tokenizer

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """The user's prompts, then the built-in ones."""
        return (*self.settings.prompts, *GENERIC)

    @cached_property
    def prompt_ids(self) -> list[list[int]]:
        """The prompts as token ids."""
        return render_prompts(self.tokenizer, self.prompts)

    @cached_property
    def model(self) -> Any:
        """The base with the adapter in the serving precision; the first use loads both."""
        return self.load(self.dtype)

    def load(self, dtype: str) -> Any:
        """Load base and adapter in a precision; ``load_result`` holds the keys that peft did not match."""
        from peft import PeftConfig, PeftModel
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        extra: dict[str, Any] = {}
        if self.settings.quantization == "nf4":
            extra["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=getattr(torch, dtype),
                bnb_4bit_use_double_quant=True,
            )
        base = AutoModelForCausalLM.from_pretrained(
            self.task.base_path,
            dtype=getattr(torch, dtype),
            device_map={"": self.device.kind},
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **extra,
        )
        config = PeftConfig.from_pretrained(self.task.adapter_path)
        config.inference_mode = True
        model = PeftModel(base, config, adapter_name=self.adapter_name, autocast_adapter_dtype=False)
        self.load_result = model.load_adapter(
            self.task.adapter_path,
            self.adapter_name,
            autocast_adapter_dtype=False,
            torch_device=self.device.kind,
        )
        model.set_adapter(self.adapter_name)
        return model.eval()


def _cpu(problem: str) -> Device:
    return Device("cpu", f"CPU, {torch.get_num_threads()} threads", cpu_has_bfloat16(), problem)


def _has_gpu(root: Path) -> bool:
    return any((root / "dev").glob("nvidia[0-9]*")) or (root / "dev/dxg").exists()
