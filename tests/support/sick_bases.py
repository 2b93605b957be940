"""Damage a base model's folder, or a tokenizer's, as users met it; one function per defect."""

from __future__ import annotations

import json
from pathlib import Path

METHODS = {
    "bitsandbytes": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "gptq": {"bits": 4, "group_size": 128, "desc_act": False},
    "awq": {"bits": 4, "group_size": 128, "version": "gemm", "zero_point": True},
    "fp8": {"activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "mxfp4": {},
    "compressed-tensors": {"format": "float-quantized", "config_groups": {}},
}
"""Quantization method → its settings in ``config.json``."""


def edit_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file; None removes the key."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def byte_order_mark(folder: Path, name: str) -> Path:
    """Let a file begin with a byte order mark, as editors on Windows save it."""
    path = folder / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return folder


def stored_quantized(folder: Path, method: str) -> Path:
    """Let the configuration say that the weights are quantized."""
    edit_json(folder / "config.json", quantization_config={"quant_method": method, **METHODS[method]})
    return folder


def eos_only_in_config(folder: Path, *ids: int) -> Path:
    """List the ids that end an answer in ``config.json`` alone, as merged and converted models do."""
    (folder / "generation_config.json").unlink()
    edit_json(folder / "config.json", eos_token_id=list(ids))
    return folder


def cut_tokenizer(folder: Path) -> Path:
    """Cut ``tokenizer.json`` in the middle, as an interrupted download does."""
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


def unknown_pre_tokenizer(folder: Path) -> Path:
    """Name a pre-tokenizer that this version of tokenizers does not have."""
    edit_json(folder / "tokenizer.json", pre_tokenizer={"type": "FromTheFuture"})
    return folder


def dangling_link(folder: Path, name: str) -> Path:
    """Replace a file by a link to a file that is gone, as a partly deleted hub cache does."""
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "blobs" / "gone")
    return folder


def chat_template(folder: Path, text: str | None) -> Path:
    """Give the tokenizer another chat template, or none."""
    edit_json(folder / "tokenizer_config.json", chat_template=text)
    return folder
