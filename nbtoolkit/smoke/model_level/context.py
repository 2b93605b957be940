"""Base and adapter, loaded on first use, the device of the model checks, and the prompts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

import torch

from nbtoolkit.serving.chat_template import ChatTemplate, ChatTemplateError
from nbtoolkit.serving.dtype import cpu_has_bfloat16, serving_dtype
from nbtoolkit.smoke.model_level.failure_causes import TokenizerFailed
from nbtoolkit.smoke.model_level.messages import ModelTask
from nbtoolkit.smoke.settings import SmokeSettings

GENERIC = (
    "I lost my dog yesterday and the house feels empty.",
    "We won the match and everybody is singing in the street!",
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three things that one needs for a picnic.",
    "Explain in simple words why the sky is blue.",
    "Summarise: the meeting was moved to Tuesday because the room was taken.",
    'Complete the JSON: {"name": "Ada", "role":',
)
"""Short prompts of many kinds, because the adapter's task is unknown."""

MAX_TOKENS = 128
CONTEXT = 10
"""Maximum context of a fingerprint, in tokens; every swap replays it while other requests are running."""


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
    """The keys of the adapter that peft did not match."""
    adapter_answers: list[list[int]] = field(default_factory=list[list[int]])
    """The adapter's greedy answers, which two checks use."""
    base_results: dict[Any, Any] = field(default_factory=dict[Any, Any])
    """The results of the functions that :func:`on_clean_base` has registered."""

    @property
    def settings(self) -> SmokeSettings:
        """The smoke settings."""
        return self.task.settings

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
        return serving_dtype(
            self.settings.dtype,
            device=self.device.kind,
            saved=getattr(self.base_config, "dtype", None),
            has_bfloat16=self.device.has_bfloat16,
        )

    @cached_property
    def adapter_config(self) -> dict[str, Any]:
        """The content of ``adapter_config.json``."""
        return json.loads((Path(self.task.adapter_path) / "adapter_config.json").read_bytes())

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer in force; raises :class:`TokenizerFailed`."""
        from transformers import AutoTokenizer

        if self.task.tokenizer_problem:
            raise TokenizerFailed(self.task.tokenizer_problem)
        try:
            return AutoTokenizer.from_pretrained(self.task.tokenizer_path, local_files_only=True)
        except Exception as error:  # of any library that reads a tokenizer's files
            raise TokenizerFailed(str(error)) from error

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The chat template in force."""
        return ChatTemplate.of(self.tokenizer, self.task.chat_template)

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """The user's prompts, then the built-in ones."""
        return (*filter(str.strip, self.settings.prompts), *GENERIC)

    @cached_property
    def prompt_ids(self) -> list[list[int]]:
        """The prompts as token ids."""
        return render_prompts(self.tokenizer, self.chat_template, self.prompts)

    @cached_property
    def base(self) -> Any:
        """The base in the serving precision, without any adapter; loaded again after :attr:`model`."""
        return self.load_base(self.dtype)

    @cached_property
    def model(self) -> Any:
        """The base with the adapter in the serving precision; the base is measured before, on first use."""
        with suppress(TokenizerFailed):  # check G3 reports it
            for measure in _ON_CLEAN_BASE:
                measure(self)
        return self.attach(self.__dict__.pop("base", None) or self.load_base(self.dtype))

    def load_base(self, dtype: str) -> Any:
        """Load the base in a precision."""
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        extra: dict[str, Any] = {}
        if self.settings.quantization == "nf4":
            extra["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=getattr(torch, dtype),
                bnb_4bit_use_double_quant=True,
            )
        return AutoModelForCausalLM.from_pretrained(
            self.task.base_path,
            dtype=getattr(torch, dtype),
            device_map={"": self.device.kind},
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **extra,
        ).eval()

    def attach(self, base: Any) -> Any:
        """Attach the adapter to a base as peft applies it, and set ``load_result``.

        It may change the base for good: some initialisations and biases rewrite weights, which peft's
        ``disable_adapter()`` does not undo.
        """
        from peft import PeftConfig, PeftModel

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


Result = TypeVar("Result")
_ON_CLEAN_BASE: list[Callable[[ModelContext], Any]] = []


def on_clean_base(measure: Callable[[ModelContext], Result]) -> Callable[[ModelContext], Result]:
    """Register a measurement of ``context.base``, which runs before the adapter is attached.

    An adapter may change the base for good, so what describes the base alone is measured first and kept:
    every later call returns the result.
    """

    @wraps(measure)
    def result(context: ModelContext) -> Result:
        if measure not in context.base_results:
            context.base_results[measure] = measure(context)
        return context.base_results[measure]

    _ON_CLEAN_BASE.append(result)
    return result


def _cpu(problem: str) -> Device:
    return Device("cpu", f"CPU, {torch.get_num_threads()} threads", cpu_has_bfloat16(), problem)


def _has_gpu(root: Path) -> bool:
    return any((root / "dev").glob("nvidia[0-9]*")) or (root / "dev/dxg").exists()


def render_prompts(tokenizer: Any, template: ChatTemplate | None, prompts: Sequence[str]) -> list[list[int]]:
    """Return each prompt rendered by the chat template, with the generation prompt.

    Without a template, or if it raises, it is the plain text. Longer prompts keep their last
    :data:`MAX_TOKENS` tokens.
    """
    ids = [_chat_ids(tokenizer, template, prompt) for prompt in prompts]
    return [one[-MAX_TOKENS:] for one in ids if one]


def short_sequences(tokenizer: Any, template: ChatTemplate | None, prompts: Sequence[str]) -> list[list[int]]:
    """Return sequences of at most :data:`CONTEXT` tokens whose prefixes are candidate contexts.

    They are the ends of rendered prompts, at which an answer begins, and the beginnings of the plain texts.
    """
    sequences: dict[tuple[int, ...], None] = {}
    for prompt in prompts:
        chat = _chat_ids(tokenizer, template, prompt)
        for length in (CONTEXT, CONTEXT // 2):
            sequences[tuple(chat[-length:])] = None
        sequences[tuple(_ids(tokenizer, prompt, template is None)[:CONTEXT])] = None
    return [list(one) for one in sequences if len(one) > 1]


def _chat_ids(tokenizer: Any, template: ChatTemplate | None, prompt: str) -> list[int]:
    try:
        text = template and template.render([{"role": "user", "content": prompt}])
    except ChatTemplateError:  # check G3 reports it
        text = None
    return _ids(tokenizer, prompt, True) if text is None else _ids(tokenizer, text, False)


def _ids(tokenizer: Any, text: str, add_special_tokens: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
