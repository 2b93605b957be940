"""Apps on the Azure double whose servers run the stub engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import deploy
from nbtoolkit.azure import sdk
from nbtoolkit.deployment import Deployment
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble
from tests.support.azure_workspace import AzurePlace
from tests.support.stub_deploy import server_code, use_stub

MakePlace = Callable[..., AzurePlace]
"""Called with the keywords of :class:`AzurePlace`."""


@pytest.fixture(scope="module")
def stub_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The stub in place of the engine, in releases of this process."""
    patch = use_stub(server_code(tmp_path_factory.mktemp("code")))
    yield
    patch.undo()


@pytest.fixture
def make_place(
    azure_double: AzureDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub_engine: None
) -> MakePlace:
    """Make a workspace with an app on the double."""
    monkeypatch.setattr(sdk, "POLL_INTERVAL", 0.2)
    return lambda **options: AzurePlace(azure_double, tmp_path / "project", **options)


def deploy_adapter(
    place: AzurePlace, word: str, progress: Progress | None = None, **settings: Any
) -> Deployment:
    """Deploy an adapter that answers with that word."""
    return deploy(place.settings(place.adapter(word), **settings), target=place.target, progress=progress)
