"""Compare the name of the base that an adapter was trained on with the base that is given."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from nbtoolkit.models.base_model import Base

_QUANTIZED = re.compile(
    r"(-(unsloth|bnb|gptq|awq|gguf|mlx|nf4|fp8|int[48]|w[48]a(8|16)|[48]bit|bf16|fp16|dynamic|hf))+$"
)
_SAYS_NOTHING = re.compile(
    r"(base|llm|hf|my)?-?(model|models|base|checkpoint|checkpoints|merged|output|outputs|out|final|best|last"
    r"|latest|main|weights|snapshot|snapshots|pretrained|original|download|llm|hf|tmp|data|input)?(-\d+)?"
    r"|[0-9a-f]{12,64}|tmp.*"
)


class NameComparison(NamedTuple):
    """Whether two names mean one base, and a note for the report.

    ``variant`` is the same base in another quantization; ``unknown`` if a name says nothing, as "model" does.
    """

    kind: Literal["same", "variant", "other", "unknown"]
    note: str = ""


def compare_base_names(trained_on: str | None, revision: object, base: Base) -> NameComparison:
    """Compare the last component of the base's name in an adapter's configuration with the given base's.

    Organisations and folders differ for copies of one model, and so do case and separators.
    """
    if not trained_on:
        return NameComparison("unknown")
    if Path(trained_on).expanduser().absolute() == base.path:
        return NameComparison("same")
    wanted = _word(trained_on)
    given = {_word(base.name), _word(base.path.name), _word(str(base.path))}
    recorded = base.config.get("_name_or_path")
    if isinstance(recorded, str):
        given.add(_word(recorded))
    if wanted in given:
        return NameComparison("same", _revision_note(revision, base.path))
    if _QUANTIZED.sub("", wanted) in {_QUANTIZED.sub("", name) for name in given}:
        return NameComparison("variant", f"trained on {trained_on}, another quantization of this base")
    if _SAYS_NOTHING.fullmatch(wanted) or all(map(_SAYS_NOTHING.fullmatch, given)):
        return NameComparison(
            "unknown", f"trained on {trained_on}; the names do not tell whether it is this base"
        )
    return NameComparison("other")


def _word(name: str) -> str:
    """Return the last component, or the repository of a path in a hub cache, in one spelling."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/"]
    cached = [part for part in parts if part.startswith("models--")]
    last = cached[-1].rpartition("--")[2] if cached else (parts or [""])[-1].partition("@")[0]
    return re.sub(r"[\W_]+", "-", last.casefold()).strip("-")


def _revision_note(revision: object, folder: Path) -> str:
    """Return a note if the adapter pins a commit and the given base is the snapshot of another."""
    commit = folder.name if folder.parent.name == "snapshots" else ""
    if isinstance(revision, str) and re.fullmatch(r"[0-9a-f]{40}", revision) and commit not in ("", revision):
        return f"trained on the revision {revision[:12]}, this base is {commit[:12]}"
    return ""
