"""A project that deploys to this machine with a stub engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stub_deploy import LocalProject


@pytest.fixture
def project(stub_engine: None, tmp_path: Path) -> Iterator[LocalProject]:
    project = LocalProject(tmp_path / "workspace")
    yield project
    project.target.destroy()
