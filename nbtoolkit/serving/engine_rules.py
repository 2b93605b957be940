"""What each engine cannot serve: one table of rules about an adapter, its base and the settings.

The rules of vLLM were read in the source of version 0.33; those of transformers are peft 0.21's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Engine = Literal["transformers", "vllm"]
ENGINES: tuple[Engine, ...] = ("transformers", "vllm")
MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's ``max_lora_rank``."""


@dataclass(frozen=True)
class EngineInput:
    """What the rules look at; ``config`` is the content of ``adapter_config.json``.

    ``keys`` are the adapter's tensor names, ``peft_keys`` the configuration keys that peft has.
    """

    config: Mapping[str, Any]
    keys: Collection[str] = ()
    base_config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    peft_keys: Collection[str] = ()
    quantization: str = "none"
    gpu: str | None = None


@dataclass(frozen=True)
class EngineRule:
    """One rule: ``find`` returns what it found, or an empty value; ``fails`` and ``warns`` name engines.

    ``settings`` are recommended instead.
    """

    name: str
    find: Callable[[EngineInput], Any]
    fails: tuple[Engine, ...] = ()
    warns: tuple[Engine, ...] = ()
    meaning: str = ""
    remedy: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Finding:
    """What a rule found."""

    rule: EngineRule
    verdict: Literal["fail", "warn"]
    found: Any

    def __str__(self) -> str:
        return f"{self.rule.name} = {self.found!r}{f', {self.rule.meaning}' if self.rule.meaning else ''}"


def findings(subject: EngineInput, engine: Engine) -> list[Finding]:
    """Return what prevents ``engine`` from serving an adapter right, failures first."""
    found = [(rule, value) for rule in RULES if (value := rule.find(subject))]
    failures = [Finding(rule, "fail", value) for rule, value in found if engine in rule.fails]
    return failures + [Finding(rule, "warn", value) for rule, value in found if engine in rule.warns]


def max_rank(config: Mapping[str, Any]) -> int:
    """Return the largest rank of any module; 0 if the configuration has none."""
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    return max((rank for rank in ranks if type(rank) is int), default=0)


def _key(name: str) -> Callable[[EngineInput], Any]:
    return lambda subject: subject.config.get(name)


_REWRITES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def _rewriting_init(subject: EngineInput) -> str:
    name = subject.config.get("init_lora_weights")
    return name if isinstance(name, str) and name.lower().startswith(_REWRITES_BASE) else ""


def _bias(subject: EngineInput) -> Any:
    return value if (value := subject.config.get("bias")) not in (None, "none") else ""


def _saved_biases(subject: EngineInput) -> Any:
    return (
        _bias(subject) if any(key.endswith(".bias") and ".lora_" not in key for key in subject.keys) else ""
    )


def _saved_modules(subject: EngineInput) -> list[str]:
    names = subject.config.get("modules_to_save") or ()
    return [name for name in names if name not in ("classifier", "score")]


_EXPERTS = re.compile(r"(?:^|\.)experts\.(?:gate_up_proj|down_proj)$")


def _parameters(subject: EngineInput) -> list[str]:
    return [name for name in subject.config.get("target_parameters") or () if not _EXPERTS.search(name)]


def _expert_parameters(subject: EngineInput) -> list[str]:
    return [name for name in subject.config.get("target_parameters") or () if _EXPERTS.search(name)]


_VLLM_KEY = re.compile(
    r"\.lora_[AB]\.weight$|\.lora_embedding_[AB]$|\.(?:embed_tokens|lm_head)\.base_layer\.weight$"
    r"|\.(?:score|classifier)\.(?:weight|bias)$"
)


_EXPLAINED = ("use_dora", "modules_to_save", "trainable_token_indices", "lora_bias")


def _other_tensors(subject: EngineInput) -> list[str]:
    """Return tensors that vLLM refuses, unless another rule names their cause."""
    if _bias(subject) or any(subject.config.get(key) for key in _EXPLAINED):
        return []
    return sorted(key for key in subject.keys if not _VLLM_KEY.search(key))[:3]


def _bare_keys(subject: EngineInput) -> list[str]:
    """Return keys of a text model on a multimodal base, which vLLM applies to nothing."""
    if not isinstance(subject.base_config.get("text_config"), dict):
        return []
    return sorted(key for key in subject.keys if key.startswith("base_model.model.model.layers."))[:1]


_NO_EFFECT = frozenset(
    [
        *(
            "auto_mapping",
            "base_model_name_or_path",
            "inference_mode",
            "peft_type",
            "peft_version",
            "revision",
        ),
        *("runtime_config", "task_type", "megatron_config", "megatron_core"),
        # which layers were trained: the tensors show it
        *("exclude_modules", "layers_pattern", "layers_to_transform", "fan_in_fan_out"),
        # training only
        *(
            "corda_config",
            "eva_config",
            "loftq_config",
            "lora_dropout",
            "lora_ga_config",
            "qalora_group_size",
        ),
        "velora_config",
    ]
)
"""Keys that do not affect how a saved adapter computes, so vLLM need not read them."""
_VLLM_READS = frozenset(
    ["r", "lora_alpha", "target_modules", "use_rslora", "init_lora_weights", "rank_pattern", "alpha_pattern"]
)


def _dropped_keys(subject: EngineInput) -> list[str]:
    ruled = {rule.name for rule in RULES}
    return sorted(
        key
        for key, value in subject.config.items()
        if value and key in subject.peft_keys and key not in _NO_EFFECT | _VLLM_READS | ruled
    )


def _too_high(subject: EngineInput) -> int:
    rank = max_rank(subject.config)
    return rank if rank > MAX_LORA_RANKS[-1] else 0


def _high(subject: EngineInput) -> int:
    rank = max_rank(subject.config)
    return rank if 64 < rank <= MAX_LORA_RANKS[-1] else 0


_CONVERT = (
    "convert it to a plain LoRA: before the training save_pretrained(init); after it "
    "save_pretrained(folder, path_initial_model_for_weight_conversion=init)"
)
_MERGE = "merge it into the base (merge_and_unload) and deploy the result as a base model"
_VLLM: tuple[Engine, ...] = ("vllm",)

RULES: tuple[EngineRule, ...] = (
    EngineRule(
        "init_lora_weights",
        _rewriting_init,
        fails=ENGINES,
        meaning="which changes the base's own weights, so every other answer of this base would change too",
        remedy=_CONVERT,
    ),
    EngineRule(
        "kasa_config",
        _key("kasa_config"),
        fails=ENGINES,
        meaning="which truncates the base's own weights, so every other answer of this base would change too",
        remedy=_MERGE,
    ),
    EngineRule(
        "saved biases",
        _saved_biases,
        fails=("transformers",),
        meaning="new values for the base's own biases, so every other answer of this base would change too",
        remedy=f'train with bias="none", or {_MERGE}',
    ),
    EngineRule(
        "bias",
        _bias,
        fails=_VLLM,
        remedy=f'train with bias="none", or {_MERGE}; if the file has no biases, set bias to "none"',
    ),
    EngineRule(
        "layer_replication",
        _key("layer_replication"),
        fails=ENGINES,
        meaning="which repeats layers of the base and cannot be switched off for it",
        remedy=_MERGE,
    ),
    EngineRule(
        "alora_invocation_tokens",
        _key("alora_invocation_tokens"),
        fails=ENGINES,
        meaning="an activated LoRA, which no engine here applies from the invocation tokens on",
        remedy="train a plain LoRA",
    ),
    EngineRule("use_dora", _key("use_dora"), fails=_VLLM, remedy=_MERGE),
    EngineRule("modules_to_save", _saved_modules, fails=_VLLM, remedy=_MERGE),
    EngineRule("lora_bias", _key("lora_bias"), fails=_VLLM, remedy="train with lora_bias=False"),
    EngineRule("trainable_token_indices", _key("trainable_token_indices"), fails=_VLLM, remedy=_MERGE),
    EngineRule("use_qalora", _key("use_qalora"), fails=_VLLM, remedy="train a plain LoRA"),
    EngineRule("use_bdlora", _key("use_bdlora"), fails=_VLLM, remedy="train a plain LoRA"),
    EngineRule("target_parameters", _parameters, fails=_VLLM, remedy="train it with target_modules"),
    EngineRule(
        "target_parameters of experts",
        _expert_parameters,
        warns=_VLLM,
        meaning="which vLLM serves only for models whose experts it holds as one tensor",
        remedy="check the contract level with vLLM",
    ),
    EngineRule("keys that vLLM ignores", _dropped_keys, fails=_VLLM, remedy="train a plain LoRA"),
    EngineRule("tensors that vLLM cannot read", _other_tensors, fails=_VLLM, remedy=_MERGE),
    EngineRule(
        "keys under model.layers of a multimodal base",
        _bare_keys,
        fails=_VLLM,
        meaning="which vLLM applies to nothing, without an error",
        remedy="rename model.layers. to model.language_model.layers. in every key",
    ),
    EngineRule(
        "rank",
        _too_high,
        fails=_VLLM,
        meaning=f"and vLLM's max_lora_rank ends at {MAX_LORA_RANKS[-1]}",
        remedy=f"train with a rank of at most {MAX_LORA_RANKS[-1]}",
    ),
    EngineRule(
        "high rank",
        _high,
        warns=_VLLM,
        meaning="which vLLM serves slowly",
        remedy="a rank of 64 is often enough",
    ),
    EngineRule(
        "quantization",
        lambda subject: "nf4" if subject.quantization == "nf4" else "",
        fails=_VLLM,
        meaning="which needs bitsandbytes; vLLM 0.33 has it only as a plugin",
        remedy="choose quantization none",
        settings={"quantization": "none"},
    ),
    EngineRule(
        "quantization without a GPU",
        lambda subject: "nf4" if (subject.quantization, subject.gpu) == ("nf4", "none") else "",
        fails=("transformers",),
        meaning="which needs a CUDA GPU",
        remedy="choose quantization none, or a GPU",
        settings={"quantization": "none"},
    ),
    EngineRule(
        "gpu",
        lambda subject: subject.gpu if subject.gpu == "none" else "",
        fails=_VLLM,
        meaning="and vLLM's image needs a CUDA GPU",
        remedy="choose a GPU",
        settings={"gpu": "A100"},
    ),
    EngineRule(
        "GPU T4",
        lambda subject: subject.gpu if subject.gpu == "T4" else "",
        warns=_VLLM,
        meaning="on which vLLM's FlashInfer needs nvcc, which images may lack (kaito#2114)",
        remedy="choose the GPU A100",
        settings={"gpu": "A100"},
    ),
)
"""The table, for all engines and GPU profiles. An engine that a rule does not name serves what it finds."""
