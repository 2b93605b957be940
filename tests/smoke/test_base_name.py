"""Another base of the same shape is found by name, without false alarms for copies of the same base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nbtoolkit import Base
from nbtoolkit.smoke.static.base_name import compare_base_names
from tests.support.model_folders import write_base

COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"


def base_in(folder: Path, **config: object) -> Base:
    return Base.read(write_base(folder, **config))


@pytest.mark.parametrize(
    ("trained_on", "folder", "kind"),
    [
        ("Qwen/Qwen2.5-0.5B", "SmolLM2-135M-Instruct", "other"),
        ("Qwen/Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct", "other"),
        ("microsoft/Phi-3-mini-4k-instruct", "Phi-3.5-mini-instruct", "other"),
        ("C:\\models\\Mistral-7B-v0.1", "Mistral-7B-v0.3", "other"),
        ("Qwen/Qwen2.5-0.5B", "Qwen2.5-0.5B", "same"),
        ("unsloth/Llama-3.2-1B", "meta-llama/llama-3.2-1b", "same"),
        ("/root/models/Qwen2.5-0.5B/", "Qwen2_5-0_5B", "same"),
        ("C:\\models\\Mistral-7B-v0.1", "Mistral-7B-v0.1", "same"),
        (f"/cache/models--Qwen--Qwen2.5-0.5B/snapshots/{OTHER}", "Qwen2.5-0.5B", "same"),
        ("Qwen/Qwen2.5-0.5B", f"models--Qwen--Qwen2.5-0.5B/snapshots/{COMMIT}", "same"),
        ("unsloth/llama-3.2-3b-instruct-unsloth-bnb-4bit", "Llama-3.2-3B-Instruct", "variant"),
        ("meta-llama/Llama-2-7b-hf", "Llama-2-7b", "variant"),
        ("unsloth/Qwen3-4B-bnb-4bit", "Qwen3-4B", "variant"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen2.5-7B-Instruct", "variant"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen2.5-7B-Instruct-AWQ", "variant"),
        ("unsloth/llama-3.2-3b-instruct", "base", "unknown"),
        ("/mnt/output/checkpoint-500", "Qwen2.5-0.5B", "unknown"),
        (f"/tmp/{COMMIT}", "Qwen2.5-0.5B", "unknown"),
        (None, "Qwen2.5-0.5B", "unknown"),
    ],
)
def test_names_are_compared(tmp_path: Path, trained_on: str | None, folder: str, kind: str) -> None:
    assert compare_base_names(trained_on, None, base_in(tmp_path / folder)).kind == kind


def test_path_of_the_base_and_its_recorded_name_are_the_same(tmp_path: Path) -> None:
    base = base_in(tmp_path / "model", _name_or_path="Qwen/Qwen2.5-0.5B")
    assert compare_base_names(str(tmp_path / "model"), None, base).kind == "same"
    assert compare_base_names("Qwen/Qwen2.5-0.5B", None, base).kind == "same"
    assert compare_base_names("Qwen/Qwen2.5-1.5B", None, base).kind == "other"


def test_hub_name_of_the_base_counts_too(tmp_path: Path) -> None:
    base = replace(base_in(tmp_path / "model"), name="Qwen2.5-0.5B")
    assert compare_base_names("Qwen/Qwen2.5-0.5B", None, base).kind == "same"
    assert compare_base_names("Qwen/Qwen2.5-1.5B", None, base).kind == "other"


def test_another_pinned_revision_is_a_note(tmp_path: Path) -> None:
    base = base_in(tmp_path / "models--Qwen--Qwen2.5-0.5B" / "snapshots" / COMMIT)
    assert OTHER[:12] in compare_base_names("Qwen/Qwen2.5-0.5B", OTHER, base).note
    assert not compare_base_names("Qwen/Qwen2.5-0.5B", COMMIT, base).note
    assert not compare_base_names("Qwen/Qwen2.5-0.5B", "main", base).note
