"""Fixtures of all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbtoolkit.local import target as local_target
from tests.azure_double import AzureDouble
from tests.azure_double.fixtures import azure_double as azure_double
from tests.support.bicep_compiler import NO_COMPILER, BicepCompiler, find_bicep
from tests.support.stub_deploy import server_code, use_stub

if TYPE_CHECKING:
    from tests.support.azure_project import MakeProject

REPO = Path(__file__).resolve().parent.parent

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test uses the network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models; servers and tests share the cores

# Each process of pytest-xdist starts servers at ports of its own: a restart expects its last port to be free.
if number := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"):
    local_target.PORT += 1000 * int(number)

# A shell starts background jobs with SIGINT ignored; tests of an interrupt need its handler.
signal.signal(signal.SIGINT, signal.default_int_handler)

SKIPS_ALLOWED_IN_CI = (
    "needs CUDA",
    "needs rights that can be taken away",  # CI runs as root
)
"""The only reasons for which a test may be skipped in CI; any other skip is a failure there."""


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """The design folder next to the checkout: recordings and real AI Toolkit files."""
    folder = REPO.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the shared folder with recordings is not next to this checkout")
    return folder


@pytest.fixture(scope="session")
def bicep() -> Iterator[BicepCompiler]:
    """A running Bicep compiler."""
    if find_bicep() is None:
        pytest.skip(NO_COMPILER)
    with BicepCompiler() as compiler:
        yield compiler


@pytest.fixture
def workspace_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace that is also the working directory."""
    (tmp_path / "infra").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def stub_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's code with the stub engine."""
    return server_code(tmp_path_factory.mktemp("code"))


@pytest.fixture(scope="module")
def stub_engine(stub_code: Path) -> Iterator[None]:
    """Let deploys of this process upload the code with the stub engine."""
    patch = use_stub(stub_code)
    yield
    patch.undo()


@pytest.fixture
def make_project(azure_double: AzureDouble, stub_engine: None, tmp_path: Path) -> MakeProject:
    """Create a workspace with an app on the double; the options are those of ``AzureProject``."""
    from tests.support.azure_project import AzureProject  # imports the SDKs, which take half a second

    return lambda **options: AzureProject(azure_double, tmp_path / "project", **options)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Report a skip for an unlisted reason as a failure in CI."""
    report = yield
    if os.environ.get("CI") and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(SKIPS_ALLOWED_IN_CI):
            report.outcome = "failed"
            report.longrepr = f"this reason for a skip is not allowed in CI: {reason}"
    return report
