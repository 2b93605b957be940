"""Write a repaired copy of an adapter whose numbers are sound but that peft or vLLM cannot read as it is."""

from __future__ import annotations

import codecs
import json
import os
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from nbtoolkit.errors import BrokenFile, InvalidAdapter, StoreError
from nbtoolkit.infra_files.json_edit import replace_value
from nbtoolkit.models.adapter import CONFIG, WEIGHTS, Adapter
from nbtoolkit.models.adapter_formats import recognise
from nbtoolkit.models.adapter_keys import fits_causal_lm, repaired_key
from nbtoolkit.models.safetensors_header import BITS, TensorInfo, read_header
from nbtoolkit.serving.content_hash import BLOCK, adapter_files
from nbtoolkit.utils.json_file import parse_object

_SHARD = re.compile(r"adapter_model-(\d+)-of-(\d+)\.safetensors")
_TEXTS = (".md", ".jsonl", ".csv")
"""Suffixes of the files next to an adapter that are copied too: its description and golden prompts."""


class _Tensor(NamedTuple):
    name: str
    file: Path
    info: TensorInfo


def repair_adapter(folder: Path | str, to: Path | str | None = None) -> Path:
    """Write a repaired copy of an adapter and return its folder, by default ``<folder>-repaired``.

    The original is never changed and an existing folder never overwritten. Tensors keep every byte and their
    type; only their names change to those of ``save_pretrained``: without the prefixes of wrappers, without
    the adapter's name, without copies of base weights. Shards are joined, byte order marks and UTF-16
    removed, links replaced by their content, and a missing or wrong ``task_type`` or ``peft_type`` is set.
    Costs one read and one write of the weights, and no memory; needs no torch. Raises
    :class:`InvalidAdapter` if that cannot repair it, and :class:`StoreError` if the copy cannot be written.

    >>> repair_adapter("adapters/tone")  # writes adapters/tone-repaired
    """
    source = Path(folder).expanduser().absolute()
    target = Path(to).expanduser().absolute() if to else source.with_name(f"{source.name}-repaired")
    if os.path.lexists(target):
        raise InvalidAdapter(
            f"{target} exists already, and a repair overwrites nothing.",
            next_step="delete it, or name another folder: repair_adapter(folder, to=...)",
            path=target,
        )
    text, config = _read_config(source)
    tensors, metadata = _read_tensors(source, config)
    for key, value in _config_changes(config, [tensor.name for tensor in tensors]).items():
        text = replace_value(text, (key,), value)
    with _new_folder(target) as scratch:
        (scratch / CONFIG).write_bytes(text.encode())
        _write_weights(scratch / WEIGHTS, tensors, metadata)
        for name, file in _other_files(source).items():
            (scratch / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, scratch / name)
            if file.suffix == ".json":
                with suppress(UnicodeDecodeError):  # the tokenizer's check reports a broken file
                    (scratch / name).write_bytes(_decode(file.read_bytes()).encode())
    return target


@contextmanager
def loadable_folder(adapter: Adapter) -> Generator[Path]:
    """Yield a folder that peft reads: the adapter's, or a copy if its configuration has a byte order mark."""
    with (adapter.path / CONFIG).open("rb") as file:
        marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    if not marked:
        yield adapter.path
        return
    with TemporaryDirectory(prefix="nbtoolkit-adapter-") as folder:
        yield repair_adapter(adapter.path, Path(folder) / "adapter")


def _read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    path = folder / CONFIG
    try:
        text = _decode(path.read_bytes())
        return text, parse_object(text, path)
    except UnicodeDecodeError as error:
        raise _unrepairable(folder, f"{CONFIG} is not text: {error.reason}", "save it as UTF-8") from error
    except BrokenFile as error:
        raise _unrepairable(folder, error.message.rstrip("."), error.next_step) from error
    except OSError as error:
        foreign = recognise(folder, {}) if folder.is_dir() else None
        problem = f"{CONFIG} cannot be read: {error.strerror}"
        raise _unrepairable(folder, *(foreign or (problem, "give the adapter's folder"))) from error


def _decode(raw: bytes) -> str:
    """Return JSON as text without a byte order mark, from UTF-8 or UTF-16."""
    return raw.decode(json.detect_encoding(raw)).removeprefix("\ufeff")


def _read_tensors(folder: Path, config: Mapping[str, Any]) -> tuple[list[_Tensor], dict[str, str]]:
    """Return the tensors under their repaired names in the order of their data, and the files' metadata."""
    shards = sorted(file for file in folder.glob("adapter_model-*") if _SHARD.fullmatch(file.name))
    files = [folder / WEIGHTS] if (folder / WEIGHTS).exists() else shards
    if not files:
        foreign = recognise(folder, config)
        missing = (f"it has no {WEIGHTS}", "run the smoke test, which names the way out")
        raise _unrepairable(folder, *(foreign or missing))
    if files == shards and (match := _SHARD.fullmatch(shards[0].name)) and int(match[2]) != len(shards):
        problem = f"it has {len(shards)} of {int(match[2])} weight files"
        raise _unrepairable(folder, problem, "copy the missing files into the folder")
    found: dict[str, _Tensor] = {}
    origins: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for file in files:
        try:
            header = read_header(file)
        except BrokenFile as error:
            raise _unrepairable(folder, f"{file.name}: {error.problem}", error.next_step) from error
        if foreign := recognise(folder, config, header.tensors):
            raise _unrepairable(folder, *foreign)
        metadata |= header.metadata
        for key, info in sorted(header.tensors.items(), key=lambda item: item[1].start):
            name = repaired_key(key).name
            if name is None:
                continue
            if name in found:
                problem = f"{origins[name]} and {key} would both be {name}: the file has two adapters"
                raise _unrepairable(folder, problem, "save only the adapter that is to be served")
            found[name], origins[name] = _Tensor(name, file, info), key
    if not found:
        raise _unrepairable(
            folder, "its weights have no tensors of an adapter", "save it again after training"
        )
    # Stable, so that the order stays; data of wider types comes first, which keeps all of it aligned.
    return sorted(found.values(), key=lambda tensor: -BITS[tensor.info.dtype]), metadata


def _config_changes(config: Mapping[str, Any], keys: list[str]) -> dict[str, str]:
    changes: dict[str, str] = {}
    if not fits_causal_lm(keys):
        return changes
    kind = config.get("peft_type")
    if kind != "LORA" and (kind is None or str(kind).upper() == "LORA"):
        changes["peft_type"] = "LORA"
    if config.get("task_type") != "CAUSAL_LM":
        changes["task_type"] = "CAUSAL_LM"
    return changes


def _write_weights(path: Path, tensors: list[_Tensor], metadata: dict[str, str]) -> None:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name, _, info in tensors:
        end = position + info.size
        header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [position, end]}
        position = end
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as output:
        output.write(len(raw).to_bytes(8, "little") + raw)
        for _, file, info in tensors:
            with file.open("rb") as data:
                data.seek(info.start)
                left = info.size
                while left:
                    block = data.read(min(left, BLOCK))
                    if not block:
                        raise OSError(f"{file} was truncated while it was read")
                    output.write(block)
                    left -= len(block)


def _other_files(folder: Path) -> dict[str, Path]:
    """Return the other files that are served, and the adapter's description and golden prompts."""
    texts = {file.name: file for file in folder.iterdir() if file.suffix in _TEXTS and file.is_file()}
    files = {**texts, **adapter_files(folder)}
    return {name: file for name, file in files.items() if name not in (CONFIG, WEIGHTS)}


@contextmanager
def _new_folder(target: Path) -> Generator[Path]:
    """Yield a new folder that gets its name when it is complete."""
    scratch = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        yield scratch
        scratch.rename(target)
    except OSError as error:
        raise StoreError(
            f"{target} cannot be written: {error.strerror or error}.",
            next_step="make its folder writable and keep disk space for a copy of the weights",
            path=target,
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unrepairable(folder: Path, problem: str, next_step: str) -> InvalidAdapter:
    return InvalidAdapter(
        f"The adapter {folder} cannot be repaired: {problem}.",
        next_step=next_step,
        path=folder,
        problem=problem,
    )
