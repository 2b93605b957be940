"""Adapter and base folders written byte by byte, so that tests can damage them exactly; no torch."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

from nbtoolkit.models.base_model import Base

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8}
Shapes = dict[str, tuple[str, list[int]]]
"""Tensor name → type and shape."""

LORA: Shapes = {
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": ("F32", [8, 16]),
    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": ("F32", [16, 8]),
}
PLAIN: Shapes = {"model.embed_tokens.weight": ("BF16", [32, 16]), "lm_head.weight": ("BF16", [32, 16])}

TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "added_tokens": [{"id": 2, "content": "</s>", "special": True}],
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "</s>": 2, "ab": 3}, "merges": [["a", "b"]]},
}


def header_of(shapes: Shapes) -> dict[str, Any]:
    """Return the safetensors header of consecutive tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape) in shapes.items():
        end = position + prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    return header


def write_header(path: Path, header: Any, data_size: int, *, fill: bytes = b"\1") -> Path:
    """Write a safetensors file; above a megabyte the file is sparse."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        if data_size <= 1 << 20:
            file.write(fill * data_size)
        else:
            file.truncate(8 + len(raw) + data_size)
    return path


def write_tensors(path: Path, shapes: Shapes, *, fill: bytes = b"\1") -> Path:
    """Write a safetensors file with these tensors."""
    size = sum(prod(shape) * SIZES[dtype] for dtype, shape in shapes.values())
    return write_header(path, header_of(shapes), size, fill=fill)


def write_adapter(folder: Path, shapes: Shapes = LORA, *, fill: bytes = b"\1", **config: Any) -> Path:
    """Write an adapter's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8, "lora_alpha": 16, **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    write_tensors(folder / "adapter_model.safetensors", shapes, fill=fill)
    return folder


def write_base(folder: Path, shapes: Shapes = PLAIN, *, fill: bytes = b"\1", **config: Any) -> Path:
    """Write a base model's folder, with a tokenizer and a chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_type": "llama", "eos_token_id": 2, "max_position_embeddings": 128, **config}
    (folder / "config.json").write_text(json.dumps(content))
    write_tensors(folder / "model.safetensors", shapes, fill=fill)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, content: Any = None, template: str | None = "T", **config: Any) -> Path:
    """Write tokenizer files into a folder."""
    (folder / "tokenizer.json").write_text(json.dumps(content or TOKENIZER))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", **config}))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def _shapes_of_size(
    hidden: int, layers: int, vocabulary: int = 32_000, dtype: str = "BF16"
) -> dict[str, Any]:
    linear = {f"model.layers.{n}.mlp.up_proj.weight": ("BF16", [12 * hidden, hidden]) for n in range(layers)}
    return {"model.embed_tokens.weight": ("BF16", [32_000, hidden]), **linear}


def sized_base(folder: Path, hidden: int, layers: int, **config: Any) -> Base:
    """Write a base model whose weights have the size of a real one, as a sparse file."""
    about = {
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": hidden,
        "dtype": "bfloat16",
        **config,
    }
    return Base.read(write_base(folder, _shapes_of_size(hidden, layers), **about))
