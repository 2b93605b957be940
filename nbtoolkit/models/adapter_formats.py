"""Recognise adapters that other tools wrote in their own format, and name what to do with each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbtoolkit.errors import BrokenFile
from nbtoolkit.models.safetensors_header import read_header


class ForeignFormat(NamedTuple):
    """What a folder contains instead of a PEFT adapter, and the next step."""

    problem: str
    next_step: str


MLX = ForeignFormat(
    "it is an MLX adapter (adapters.safetensors, fine_tune_type), which neither peft nor vLLM reads",
    "fuse it with python -m mlx_lm fuse --de-quantize and deploy the result as the base; or convert it to "
    "PEFT: lora_a and lora_b transposed as lora_A.weight and lora_B.weight, lora_alpha = scale × rank",
)
GGUF = ForeignFormat(
    "it is a GGUF adapter of llama.cpp, which neither peft nor vLLM reads",
    "give the PEFT folder from which convert_lora_to_gguf.py made it: GGUF cannot be converted back",
)
DIFFUSERS = ForeignFormat(
    "it is a LoRA of an image model (diffusers or kohya), not of a language model",
    "give the adapter of a causal language model; serve this one with diffusers",
)
TORCHTUNE = ForeignFormat(
    "it has only torchtune's own checkpoint of the adapter (adapter_0.pt)",
    "save with torchtune's FullModelHFCheckpointer, which also writes adapter_model.safetensors",
)
WHOLE_MODEL = ForeignFormat(
    "it is a whole model, not an adapter: it has config.json and model weights",
    "give it as the base; or give the folder of the LoRA adapter, from before it was merged",
)

_BY_KEY = (
    (
        re.compile(
            r"^(lora_unet_|lora_te\d?_|unet\.|text_encoder(_\d)?\.|diffusion_model\."
            r"|transformer\.(single_)?transformer_blocks\.)"
        ),
        DIFFUSERS,
    ),
    (re.compile(r"\.lora_[ab]$"), MLX),
    (re.compile(r"\.lora_[ab]\.weight$"), TORCHTUNE),
)
_BY_FILE = (
    (re.compile(r"pytorch_lora_weights\.safetensors"), DIFFUSERS),
    (re.compile(r".+\.gguf"), GGUF),
    (re.compile(r"adapter_\d+\.pt"), TORCHTUNE),
)
_MODEL_WEIGHTS = re.compile(r"model.*\.safetensors(\.index\.json)?")
_MAX_FILES = 8


def recognise(folder: Path, config: Mapping[str, Any], keys: Iterable[str] = ()) -> ForeignFormat | None:
    """Return the foreign format of a folder by its files, its configuration and its tensors' names.

    Without ``keys`` those of the folder's safetensors files are read.
    """
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else [folder.name]
    given = list(keys)
    tensors = given or list(_keys_of_files(folder, names))
    for pattern, found in _BY_KEY:
        if any(map(pattern.search, tensors)):
            return found
    if given:
        return None  # the other files do not matter then
    if "fine_tune_type" in config or any(name.endswith("adapters.safetensors") for name in names):
        return MLX
    for pattern, found in _BY_FILE:
        if any(map(pattern.fullmatch, names)):
            return found
    whole = not config and "config.json" in names and any(map(_MODEL_WEIGHTS.fullmatch, names))
    return WHOLE_MODEL if whole else None


def _keys_of_files(folder: Path, names: Iterable[str]) -> Iterator[str]:
    for name in [name for name in names if name.endswith(".safetensors")][:_MAX_FILES]:
        try:
            yield from read_header(folder / name).tensors
        except BrokenFile:
            continue
