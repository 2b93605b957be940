"""The fixture `azure_double`; tests/conftest.py registers it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtoolkit.azure import clients
from nbtoolkit.azure.auth import shared_credential
from tests.fidelity.documented_operations import recorded_operations, unknown
from tests.fidelity.traffic import Traffic

from .double import AzureDouble


@pytest.fixture
def azure_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureDouble]:
    """A running double that this process's clients (and its children) find in their environment."""
    root = tmp_path / "azure"
    root.mkdir()
    with AzureDouble(root) as double:
        traffic = Traffic()
        traffic.watch(double)
        for name, value in double.environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(clients, "_shared", clients.Cloud(poll_interval=0.05))
        monkeypatch.setattr(shared_credential, "_shared", None)
        yield double
        if clients._shared is not None:
            clients._shared.close()
    assert not double.crashes, "\n".join(double.crashes)
    if recorded_operations():
        called = unknown(traffic.operations, recorded_operations())
        assert called == [], (
            f"neither recorded nor documented (tests/fidelity/documented_operations.py): {called}"
        )
