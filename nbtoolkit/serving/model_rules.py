"""Rules shared by smoke test and engine: the dtype to serve in, and the tokens that end an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

Dtype = Literal["float32", "bfloat16", "float16"]
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
_MARK = "nbtoolkitmark"


def serving_dtype(requested: str, *, device: str, saved: str | None, has_bfloat16: bool) -> Dtype:
    """Return the dtype to serve in, for a request of ``auto`` or a named one.

    ``device`` is ``cpu`` or ``cuda``, ``saved`` the dtype in the base model's configuration, ``has_bfloat16``
    whether the device has native bfloat16: a T4 has not, and a CPU that emulates it is slower than in
    float32. ``auto`` is the base's own dtype if the device is fast at it.
    """
    if requested != "auto":
        return cast("Dtype", requested)
    own: Dtype = saved if saved in ("float32", "bfloat16", "float16") else "float32"
    if device == "cpu":
        return "bfloat16" if own == "bfloat16" and has_bfloat16 else "float32"
    return "float16" if own == "bfloat16" and not has_bfloat16 else own


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware; False if /proc/cpuinfo is missing."""
    if not cpuinfo.is_file():
        return False
    return not _CPU_FLAGS.isdisjoint(cpuinfo.read_text(encoding="ascii", errors="ignore").split())


def stop_token_ids(model: Any, tokenizer: Any, chat_template: str | None) -> frozenset[int]:
    """Return every token id that ends an answer of a loaded transformers model.

    As in ``generate``, the EOS ids are those of ``model.generation_config``, which transformers reads from
    ``generation_config.json`` or, if the file is missing, from ``config.json``. Added to them are the
    tokenizer's EOS token and the template's end of turn.
    """
    generation = getattr(model.generation_config, "eos_token_id", None)
    config = getattr(model.config.get_text_config(decoder=True), "eos_token_id", None)
    ids = {tokenizer.eos_token_id, end_of_turn(tokenizer, chat_template)}
    return frozenset((*eos_token_ids(generation, config), *(one for one in ids if one is not None)))


def eos_token_ids(*declared: object) -> tuple[int, ...]:
    """Return the ids of the first ``eos_token_id`` that is set: a number or a list of numbers."""
    for value in declared:
        ids = [one for one in (value if isinstance(value, list) else [value]) if type(one) is int]
        if ids:
            return tuple(dict.fromkeys(ids))
    return ()


def end_of_turn(tokenizer: Any, chat_template: str | None) -> int | None:
    """Return the special token that the template puts after an assistant's answer, or None.

    The template is rendered to find it, because no file names it: ``<|end|>`` of Phi-3, ``<end_of_turn>`` of
    Gemma.
    """
    if not chat_template:
        return None
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
    try:
        text: str = tokenizer.apply_chat_template(conversation, tokenize=False, chat_template=chat_template)
    except Exception:  # noqa: BLE001  a template may raise anything; then there is no end of turn
        return None
    _, found, rest = text.rpartition(_MARK)
    ids = tokenizer.encode(rest.lstrip(), add_special_tokens=False) if found else []
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else None
