"""Fixtures of the tests that operate an app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtoolkit.azure import sdk
from tests.azure_double import AzureDouble
from tests.support.azure_workspace import AzurePlace
from tests.support.operated_app import MakePlace
from tests.support.stub_deploy import server_code, use_stub


@pytest.fixture(scope="module", autouse=True)
def _stub_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = use_stub(server_code(tmp_path_factory.mktemp("code")))
    yield
    patch.undo()


@pytest.fixture
def make_place(azure_double: AzureDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlace:
    """Create a workspace with an app on the double; the options are those of ``AzurePlace``."""
    monkeypatch.setattr(sdk, "POLL_INTERVAL", 0.05)
    return lambda **options: AzurePlace(azure_double, tmp_path / "project", **options)
