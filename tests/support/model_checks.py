"""The model level's checks, run in the test's process on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.smoke.check import CheckOutcome, registered_checks
from nbtoolkit.smoke.model_level.messages import ModelTask


def model_task(base: Path, adapter: Path, facts: dict[str, Any] | None = None, **settings: Any) -> ModelTask:
    """Return the input of the model level; ``facts`` are other fields of the task."""
    return ModelTask(
        settings={"adapter": str(adapter), "base": str(base), **settings},
        adapter_path=str(adapter),
        adapter_sha256="a" * 64,
        base_path=str(base),
        base_sha256="b" * 64,
        tokenizer_path=str(base),
        **(facts or {}),
    )


def model_context(base: Path, adapter: Path, facts: dict[str, Any] | None = None, **settings: Any) -> Any:
    """Return the context of the checks, which loads the models on first use."""
    from nbtoolkit.smoke.model_level.context import ModelContext

    return ModelContext(model_task(base, adapter, facts, **settings), lambda *_: None)


def outcome(id: str, context: Any) -> CheckOutcome:
    """Run the check ``id``."""
    from nbtoolkit.smoke.model_level.__main__ import register_checks

    register_checks()
    return next(one for one in registered_checks("model") if one.id == id).run(context)


def fingerprint_of(base: Path, adapter: Path, dtype: str) -> Fingerprint:
    """Take a fingerprint without any check."""
    from nbtoolkit.smoke.model_level.fingerprints import take_fingerprint

    return take_fingerprint(model_context(base, adapter, dtype=dtype, answer_tokens=1))
