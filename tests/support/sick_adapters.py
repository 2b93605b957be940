"""Give a healthy adapter one real defect: each function changes the folder and is named by the defect."""

from __future__ import annotations

import codecs
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."

Spoil = Callable[[Path], object]


def tensors(folder: Path) -> dict[str, Any]:
    """Return the adapter's tensors by name."""
    from safetensors.numpy import load_file

    return load_file(folder / WEIGHTS)


def write(folder: Path, content: dict[str, Any]) -> None:
    """Replace the adapter's tensors."""
    from safetensors.numpy import save_file

    save_file(content, folder / WEIGHTS)


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of the configuration; a value of ... removes the key."""
    config = {**json.loads((folder / CONFIG).read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in config.items() if value is not ...}
    (folder / CONFIG).write_text(json.dumps(kept, indent=2), encoding="utf-8")


def config_with(**changes: Any) -> Spoil:
    """Change keys of the configuration."""
    return lambda folder: edit_config(folder, **changes)


def renamed(old: str, new: str) -> Spoil:
    """Replace a part of every tensor's name."""
    return lambda folder: write(folder, {k.replace(old, new, 1): v for k, v in tensors(folder).items()})


def with_adapter_name(name: str) -> Spoil:
    """Name the tensors as ``model.state_dict()`` does: ``lora_A.<name>.weight``."""
    return renamed(".weight", f".{name}.weight")


NAMES: dict[str, Spoil] = {
    "torch.compile": renamed(".model.model", ".model._orig_mod.model"),
    "torch.compile of the whole": renamed(PREFIX, f"_orig_mod.{PREFIX}"),
    "DistributedDataParallel": renamed(".model.model", ".model.module.model"),
    "DistributedDataParallel of the whole": renamed(PREFIX, f"module.{PREFIX}"),
    "FSDP": renamed(PREFIX, f"_fsdp_wrapped_module.{PREFIX}_fsdp_wrapped_module."),
    "activation checkpointing": renamed(".self_attn", "._checkpoint_wrapped_module.self_attn"),
    "wrapped by peft twice": renamed("base_", f"{PREFIX}base_"),
    "a module around peft's": renamed(PREFIX, f"policy.{PREFIX}"),
    "without peft's prefix": renamed(PREFIX, ""),
    "trained on AutoModel": renamed(f"{PREFIX}model.", PREFIX),
    "default adapter": with_adapter_name("default"),
    "named adapter": with_adapter_name("tone"),
    "adapter with a name of one letter": with_adapter_name("A"),
    "without .weight": renamed(".weight", ""),
}
"""Names that peft does not load; :func:`nbtoolkit.repair_adapter` restores all of them."""


def whole_state_dict(folder: Path) -> None:
    """Save the base's weights and an unused copy of a module along with the adapter."""
    content = tensors(folder)
    module = next(iter(content)).partition(".lora_")[0]
    copies = {
        f"{module}.base_layer.weight": np.ones((4, 4), np.float32),
        f"{PREFIX}lm_head.original_module.weight": np.ones((4, 4), np.float32),
    }
    write(folder, {**content, **copies})


def two_adapters(folder: Path) -> None:
    """Save the state dictionary of a model with two adapters."""
    content = tensors(folder)
    both = {key.replace(".weight", ".reference.weight"): value for key, value in content.items()}
    write(folder, {**content, **both})


def only_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-100])


def forty_bytes(folder: Path) -> None:
    """Save no tensors, as a training that gathered the weights on another process does."""
    header = b'{"__metadata__":{"format":"pt"}}'
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header)


def git_lfs_pointer(folder: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456789\n"
    (folder / WEIGHTS).write_text(pointer)


def folder_for_weights(folder: Path) -> None:
    """Put a folder in place of the weights file."""
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def sharded(folder: Path) -> None:
    """Split the weights into two files."""
    content = list(tensors(folder).items())
    from safetensors.numpy import save_file

    for number, part in enumerate((content[:5], content[5:]), 1):
        save_file(dict(part), folder / f"adapter_model-0000{number}-of-00002.safetensors")
    (folder / WEIGHTS).unlink()


def byte_order_mark(folder: Path) -> None:
    (folder / CONFIG).write_bytes(codecs.BOM_UTF8 + (folder / CONFIG).read_bytes())


def utf16(folder: Path) -> None:
    (folder / CONFIG).write_bytes((folder / CONFIG).read_text(encoding="utf-8").encode("utf-16"))


def linked_weights(folder: Path) -> None:
    """Link the weights to a file elsewhere."""
    elsewhere = folder.with_name(f"{folder.name}-weights")
    shutil.move(folder / WEIGHTS, elsewhere)
    (folder / WEIGHTS).symlink_to(elsewhere)


def zero(part: str) -> Spoil:
    """Set every A or B to zero; embeddings start with A = 0, other modules with B = 0."""
    return lambda folder: write(
        folder, {k: v * 0 if f"lora_{part}" in k else v for k, v in tensors(folder).items()}
    )


def poisoned(value: float, key: str = "lora_") -> Spoil:
    """Set one value of the first tensor whose name contains ``key``."""

    def change(folder: Path) -> None:
        content = tensors(folder)
        next(value for name, value in content.items() if key in name).flat[5] = value
        write(folder, content)

    return change


def as_type(kind: str) -> Spoil:
    """Store the tensors in another type."""
    return lambda folder: write(folder, {k: v.astype(kind) for k, v in tensors(folder).items()})


def other_rank(folder: Path) -> None:
    """Double the rank of one A but not of its B."""
    content = tensors(folder)
    key = next(k for k in content if "lora_A" in k)
    content[key] = np.concatenate([content[key], content[key]])
    write(folder, content)


def one_half(folder: Path) -> None:
    """Lose every B."""
    write(folder, {key: value for key, value in tensors(folder).items() if "lora_A" in key})


def classification_head(folder: Path) -> None:
    """Make it an adapter of a classifier."""
    edit_config(folder, task_type="SEQ_CLS", modules_to_save=["score"])
    write(folder, {**tensors(folder), f"{PREFIX}score.weight": np.ones((2, 32), np.float32)})


def no_pair(folder: Path) -> None:
    """Leave only a whole module."""
    write(folder, {f"{PREFIX}lm_head.weight": np.ones((273, 32), np.float32)})


def mlx(folder: Path) -> None:
    """Write the adapter as mlx-lm does."""
    content = tensors(folder)
    (folder / WEIGHTS).unlink()
    config = {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 4, "scale": 4.0}}
    (folder / CONFIG).write_text(json.dumps(config))
    from safetensors.numpy import save_file

    names = {
        key.removeprefix(PREFIX).replace("lora_A.weight", "lora_a").replace("lora_B.weight", "lora_b"): value
        for key, value in content.items()
    }
    save_file({k: np.ascontiguousarray(v.T) for k, v in names.items()}, folder / "adapters.safetensors")


def kohya(folder: Path) -> None:
    """Name the tensors as kohya's trainer of image models does."""
    write(
        folder, {f"lora_unet_block_{i}.lora_down.weight": v for i, v in enumerate(tensors(folder).values())}
    )


def diffusers(folder: Path) -> None:
    """Write the file that diffusers writes, which has no configuration."""
    (folder / CONFIG).unlink()
    (folder / WEIGHTS).rename(folder / "pytorch_lora_weights.safetensors")


def gguf(folder: Path) -> None:
    """Leave only the file of llama.cpp."""
    (folder / CONFIG).unlink()
    (folder / WEIGHTS).unlink()
    (folder / "adapter-f16.gguf").write_bytes(b"GGUF\3\0\0\0")


def torchtune(folder: Path) -> None:
    """Leave only torchtune's own checkpoint."""
    (folder / WEIGHTS).unlink()
    (folder / "adapter_0.pt").write_bytes(b"PK\3\4")


def whole_model(folder: Path) -> None:
    """Make it a merged model instead of an adapter."""
    (folder / CONFIG).rename(folder / "config.json")
    (folder / WEIGHTS).rename(folder / "model.safetensors")


def foreign_files(folder: Path) -> None:
    """Add files of the base and of a training that are never sent; the adapter stays healthy."""
    (folder / "modeling_mine.py").write_text("raise SystemExit('ran')\n")
    (folder / "config.json").write_text('{"auto_map": {"AutoConfig": "modeling_mine.Config"}}')
    (folder / "wandb/run-1/files/code").mkdir(parents=True)
    (folder / "wandb/run-1/files/code/train.py").write_text("print(1)\n")
    for name in ("optimizer.pt", "training_args.bin"):
        (folder / name).write_bytes(b"\x80\x02x")


def tokenizer_auto_map(folder: Path) -> None:
    """Name remote code in a file that is sent."""
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["mine.Tok", null]}}')


def hub_snapshot(folder: Path, cache: Path, repository: str) -> Path:
    """Move a folder's files into a hub cache and return the snapshot, whose files are links into blobs/."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "refs").mkdir()
    (home / "refs/main").write_text(snapshot.name)
    for file in [file for file in folder.iterdir() if file.is_file()]:
        blob = home / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.move(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot
