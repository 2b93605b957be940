"""Public names come from folders of real life, and snapshots of the hub cache have the repository's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbtoolkit import DeploySettings
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.folder_names import public_name
from nbtoolkit.releases.builder import build_release
from nbtoolkit.serving.release import EngineSettings
from tests.support.model_folders import write_adapter, write_base
from tests.support.sick_adapters import hub_snapshot

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("tone", "tone"),
        ("Qwen2.5-0.5B", "Qwen2.5-0.5B"),
        ("my adapter (final) – Kopie", "my-adapter-final-Kopie"),
        ("mein Modell", "mein-Modell"),
        ("Köln", "Köln"),
        ("Ko\u0308ln", "Köln"),
        ("适配器", "适配器"),
        ("_lora", "lora"),
        (".hidden", "hidden"),
        ("tone/", "tone"),
        ("a" * 120, "a" * 100),
        (f"hub/models--ada--my-lora/snapshots/{COMMIT}", "my-lora"),
        (f"hub/models--ada--my-lora/snapshots/{COMMIT}/checkpoint-500", "checkpoint-500"),
        ("🙂", "🙂"),
    ],
)
def test_public_name(folder: str, name: str) -> None:
    assert public_name(folder) == name


def test_current_folder_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my tone").mkdir()
    monkeypatch.chdir(tmp_path / "my tone")
    assert [*DeploySettings(adapters=".", base="base").adapters] == ["my-tone"]


def test_release_takes_the_names_of_such_folders(tmp_path: Path) -> None:
    base = Base.read(write_base(tmp_path / "mein Modell"))
    snapshot = hub_snapshot(write_adapter(tmp_path / "real"), tmp_path / "hub", "ada/my-lora")
    folders = (write_adapter(tmp_path / "适配器", r=4), snapshot)
    adapters = {adapter.name: adapter for adapter in map(Adapter.read, folders)}
    release = build_release(base, "bases/x", adapters, EngineSettings(), "0" * 64, override_reason="test")
    assert release.base
    assert release.base.name == "mein-Modell"
    assert sorted(adapter.name for adapter in release.adapters) == ["my-lora", "适配器"]
