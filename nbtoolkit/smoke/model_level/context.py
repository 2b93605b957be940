"""What the model checks look at: base and adapter, loaded when the first of them needs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nbtoolkit.serving.dtype import serving_dtype
from nbtoolkit.smoke.model_level.device import Device, choose
from nbtoolkit.smoke.model_level.messages import Task
from nbtoolkit.smoke.model_level.prompts import GENERIC, rendered
from nbtoolkit.smoke.settings import SmokeSettings


@dataclass
class ModelSubject:
    """One adapter on one base; ``tell`` reports progress."""

    task: Task
    tell: Callable[..., None]
    device: Device = field(default_factory=choose)
    load_result: Any = None

    @cached_property
    def settings(self) -> SmokeSettings:
        """The smoke settings."""
        return self.task.smoke

    @property
    def adapter_name(self) -> str:
        """The adapter's name inside peft, as the engine names it."""
        return f"a_{self.task.adapter_sha256[:16]}"

    @cached_property
    def base_config(self) -> Any:
        """The base's configuration, as transformers reads it."""
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
        """What ``adapter_config.json`` says."""
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
        return rendered(self.tokenizer, self.prompts)

    @cached_property
    def model(self) -> Any:
        """The base with the adapter in the serving precision; the first use loads both."""
        return self.load(self.dtype)

    def load(self, dtype: str) -> Any:
        """Load base and adapter in a precision; ``load_result`` keeps the keys that peft did not match."""
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
