"""Explain exceptions of torch, transformers and peft as findings; imports none of them."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbtoolkit.errors import BrokenFile, NbtoolkitError
from nbtoolkit.installation import install_hint
from nbtoolkit.models.base_model_files import CONFIG, CONFIG_FILES, GENERATION
from nbtoolkit.smoke.check import CheckOutcome, exception_finding, failure
from nbtoolkit.smoke.model_level.messages import ModelTask
from nbtoolkit.utils.json_file import read_object

TOKENIZER_FILES = tuple(
    name for name in CONFIG_FILES if name.endswith(".json") and name not in (CONFIG, GENERATION)
)
_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|Cannot allocate memory")
_QUANTIZED_NAME = re.compile(
    r"(-unsloth)?-(bnb-4bit|bnb-8bit|4bit|8bit|gptq|awq|fp8|mxfp4|int4|int8)\b.*$", re.I
)


class TokenizerFailed(Exception):
    """The tokenizer in force cannot be loaded; check G3 reports it."""


def explain(error: BaseException, task: ModelTask) -> CheckOutcome:
    """Return the failed finding for an exception; the evidence has its traceback."""
    evidence = {"traceback": traceback.format_exception(error)[-12:]}
    chain = list(_chain(error))
    base, tokenizer = Path(task.base_path), Path(task.tokenizer_path)
    if any(_is_out_of_memory(one) for one in chain):
        return failure(
            f"out of memory: {_first_line(error)}",
            evidence,
            "end other programs that use the memory, or take quantization='nf4', a GPU with more memory, "
            "or a smaller base",
        )
    if isinstance(error, NbtoolkitError):
        return exception_finding(error)
    files = [base / CONFIG, base / GENERATION, *(tokenizer / name for name in TOKENIZER_FILES)]
    if broken := unreadable_file(files):
        return failure(broken.message, evidence, broken.next_step)
    missing = next((one for one in chain if isinstance(one, ModuleNotFoundError)), None)
    if missing and missing.name in ("torch", "transformers", "peft", "safetensors", "tokenizers"):
        return failure(f"the package {missing.name} is not installed here", evidence, install_hint("model"))
    if method := quantization_method(base):
        return quantized_base(method, task, _first_line(error), evidence)
    if any("trust_remote_code" in str(one) for one in chain):
        return failure(
            "the base needs code of its own (auto_map in its configuration), which nbtoolkit never runs",
            evidence,
            "take a base that transformers supports without code of its own",
        )
    return exception_finding(error)


def quantized_base(
    method: str, task: ModelTask, cause: str, evidence: Mapping[str, Any] = MappingProxyType({})
) -> CheckOutcome:
    """Return the finding for a base that is stored quantized and does not load here."""
    trained_on = _read(Path(task.adapter_path) / "adapter_config.json").get("base_model_name_or_path")
    original = _QUANTIZED_NAME.sub("", trained_on) if isinstance(trained_on, str) else trained_on
    named = f", perhaps {original}" if original and original != trained_on else ""
    return failure(
        f"the base is stored quantized ({method}) and does not load so on this machine: {cause}",
        {**evidence, "quantization_method": method},
        f"take the 16-bit model that it was made from{named}; quantization='nf4' quantizes it on a GPU "
        "when it is loaded",
    )


def quantization_method(base: Path) -> str | None:
    """Return how the weights of a base are stored: ``bitsandbytes``, ``gptq``, …; None if plain."""
    config = _read(base / CONFIG)
    text = config.get("text_config")
    for source in (config, text if isinstance(text, dict) else {}):
        found = source.get("quantization_config")
        if isinstance(found, dict):
            return str(
                found.get("quant_method") or ("bitsandbytes" if found.get("load_in_4bit") else "unknown")
            )
    return None


def unreadable_file(files: Iterable[Path]) -> BrokenFile | None:
    """Return the error for the first JSON file that is damaged or begins with a byte order mark."""
    for file in files:
        if not file.is_file():
            continue
        try:
            json.loads(file.read_bytes().decode("utf-8"))
        except (OSError, ValueError):
            try:
                read_object(file)
            except BrokenFile as error:
                return error
            return BrokenFile(
                f"{file} begins with a byte order mark, which transformers cannot read.",
                next_step=f"save {file.name} as UTF-8 without a byte order mark",
                path=file,
            )
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except BrokenFile:
        return {}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)  # torch is not imported
    return named or isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
