"""The engine's copy of an adapter has the published bytes, except for a byte order mark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbtoolkit.serving.content_hash import adapter_sha256
from nbtoolkit.serving.gateway.published_releases import NotServable, PublishedReleases
from nbtoolkit.serving.release import ServedAdapter
from tests.support.model_folders import write_adapter
from tests.support.sick_adapters import CONFIG, WEIGHTS, byte_order_mark


def test_copy_has_no_byte_order_mark_and_the_hash_covers_it(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "mount/adapters/tone")
    byte_order_mark(folder)
    served = ServedAdapter(name="tone", path="adapters/tone", sha256=adapter_sha256(folder), rank=8)
    copy = PublishedReleases(tmp_path / "mount").copy_adapter(served, tmp_path / "local")
    assert json.loads((copy / CONFIG).read_text(encoding="utf-8"))["r"] == 8
    assert (copy / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    (folder / CONFIG).write_bytes((copy / CONFIG).read_bytes())
    with pytest.raises(NotServable, match="sha256"):
        PublishedReleases(tmp_path / "mount").copy_adapter(served, tmp_path / "local")
