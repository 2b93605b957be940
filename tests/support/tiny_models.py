"""Tiny random model folders with a working tokenizer, and tiny random LoRA adapters; no network.

Answers are gibberish and take milliseconds. The weights are drawn wide enough that the greedy choice is
never a close call in float32. Importing this module is cheap: torch comes with the first call.

    base = tiny_base(tmp_path / "tiny")                       # a Llama
    adapter = tiny_adapter(tmp_path / "adapter", base, seed=1)
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

ARCHITECTURES = ("llama", "phi3", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "gpt2")
MIXTURE_OF_EXPERTS = "qwen3_moe"
SLIDING_WINDOW = 24
"""Window of the sliding layers of phi3, mistral, gemma2, gemma3 and the upper half of qwen2 and qwen3."""

END_OF_TEXT, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MERGES = [
    "t h",
    "th e",
    "Ġ the",
    "a n",
    "an d",
    "Ġ and",
    "o n",
    "i n",
    "Ġ a",
    "Ġ s",
    "a t",
    "e r",
    "l l",
    "o w",
]


def tiny_base(
    folder: Path,
    architecture: str = "llama",
    *,
    seed: int = 0,
    hidden: int = 32,
    layers: int = 4,
    max_length: int = 512,
    dtype: str = "float32",
) -> Path:
    """Write a random model of ``architecture`` into ``folder`` and return the folder; takes about 0.1 s."""
    import torch
    from transformers import AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder)
    config = _config(architecture, vocabulary, hidden, layers, max_length)
    generator_state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.5 if "embed" in name or "wte" in name else 0.25)
    finally:
        torch.random.set_rng_state(generator_state)
    model.generation_config.eos_token_id = [vocabulary[END_OF_TEXT]]
    model.generation_config.pad_token_id = vocabulary[END_OF_TEXT]
    model.save_pretrained(folder)
    return folder


def tiny_adapter(
    folder: Path,
    base: Path,
    *,
    seed: int = 1,
    rank: int = 4,
    alpha: int = 16,
    targets: tuple[str, ...] | None = None,
    **lora: Any,
) -> Path:
    """Write a random LoRA adapter for ``base`` into ``folder`` and return the folder.

    Both matrices, saved modules and trained tokens are drawn, so it changes the answers. ``targets`` are the
    architecture's attention projections by default; further keywords go into peft's ``LoraConfig``.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    kind = model.config.model_type
    if targets is None:
        by_kind = {"phi3": ("qkv_proj", "o_proj"), "gpt2": ("c_attn",)}
        targets = by_kind.get(kind, ("q_proj", "v_proj", "o_proj"))
    if kind == "gpt2":
        lora["fan_in_fan_out"] = True
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        config = LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=list(targets), task_type="CAUSAL_LM", **lora
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft calls deprecated functions of transformers
            tuned = get_peft_model(model, config)
            with torch.no_grad():
                for name, parameter in tuned.named_parameters():
                    if "lora_" in name:
                        parameter.normal_(0, 0.15)
                    elif "modules_to_save" in name or "trainable_tokens_delta" in name:
                        parameter.add_(torch.randn_like(parameter) * 0.2)
            tuned.save_pretrained(folder)
    finally:
        torch.random.set_rng_state(state)
    return folder


def trained_adapter(
    folder: Path, base: Path, *, steps: int, rate: float = 1e-3, rank: int = 1, trained_on: str = ""
) -> Path:
    """Train a LoRA adapter on one sentence for ``steps`` steps of AdamW and return the folder.

    Without a step its delta is zero. ``trained_on`` is the base's name in its configuration.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = torch.tensor([AutoTokenizer.from_pretrained(base)("the sea and the sand in the sun")["input_ids"]])
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(0)
        config = LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft calls deprecated functions of transformers
            model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=rate)
            for _ in range(steps):
                model(input_ids=ids, labels=ids).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            model.save_pretrained(folder)
    finally:
        torch.random.set_rng_state(state)
    if trained_on:
        path = folder / "adapter_config.json"
        content = {**json.loads(path.read_text()), "base_model_name_or_path": trained_on}
        path.write_text(json.dumps(content))
    return folder


def _config(architecture: str, vocabulary: dict[str, int], hidden: int, layers: int, max_length: int) -> Any:
    from transformers import AutoConfig

    end = vocabulary[END_OF_TEXT]
    common: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": max_length,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": end,
        "tie_word_embeddings": False,
    }
    sliding_types = ["sliding_attention" if i % 2 else "full_attention" for i in range(layers)]
    window = {"sliding_window": SLIDING_WINDOW}
    extra: dict[str, dict[str, Any]] = {
        "llama": {},
        "phi3": window,
        "qwen2": {**window, "use_sliding_window": True, "layer_types": sliding_types},
        "qwen3": {**window, "use_sliding_window": True, "layer_types": sliding_types},
        MIXTURE_OF_EXPERTS: {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": hidden // 2,
        },
        "mistral": window,
        "gemma": {},
        "gemma2": {**window, "layer_types": sliding_types, "query_pre_attn_scalar": hidden // 4},
        "gemma3_text": {**window, "layer_types": sliding_types, "query_pre_attn_scalar": hidden // 4},
    }
    if architecture == "gpt2":
        return AutoConfig.for_model(
            "gpt2",
            vocab_size=len(vocabulary),
            n_embd=hidden,
            n_layer=layers,
            n_head=4,
            n_positions=max_length,
            bos_token_id=end,
            eos_token_id=end,
            tie_word_embeddings=False,
        )
    kind = "gemma3_text" if architecture == "gemma3" else architecture
    return AutoConfig.for_model(kind, **{**common, **extra[kind]})


def write_tokenizer(folder: Path) -> dict[str, int]:
    """Write a byte-level BPE with a few merges, so that an emoji is four tokens and CJK three a character."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {piece: i for i, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for merge in _MERGES:
        left, right = merge.split(" ")
        merges.append((left, right))
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = (END_OF_TEXT, START_OF_TURN, END_OF_TURN)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return tokenizer.get_vocab(with_added_tokens=True)
