"""Which checks the model level runs, for a kernel that never imports them: they import torch."""

from __future__ import annotations

from nbtoolkit.smoke.check import Check

MODEL_CHECKS = {"A3": "config", "A4": "base match", "G1": "load", "G2": "effect", "G4": "sanity"}
"""Id → title, as registered in ``model_level``; a test holds the two together."""


def skipped(reason: str) -> list[Check]:
    """Return the model level's checks as not run."""
    return [
        Check(id=id, level="model", title=title, verdict="skipped", summary=f"skipped: {reason}")
        for id, title in MODEL_CHECKS.items()
        if id != "A3"  # the static level settles it nearly always
    ]
