"""The packages that servers install from the share."""

from __future__ import annotations

from pathlib import Path

from nbtoolkit import Workspace
from nbtoolkit.container_runtime.images import TRANSFORMERS
from nbtoolkit.container_runtime.share_wheels import SharedWheels, resolve_wheels


def test_wheels_are_those_of_the_serving_engine_whatever_the_parameter_file_names(tmp_path: Path) -> None:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "inference.parameters.json").write_text(
        '{"parameters":{"engine":{"value":"vllm"}}}'
    )
    found = resolve_wheels(None, Workspace(tmp_path))
    assert isinstance(found, SharedWheels)
    assert found.runtime == TRANSFORMERS
    assert resolve_wheels("none", Workspace(tmp_path)) is None
