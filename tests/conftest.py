"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azure_double.fixtures import azure_double as azure_double
from tests.support.bicep_compiler import NO_COMPILER, BicepCompiler, find_bicep

REPO = Path(__file__).resolve().parent.parent

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test talks to a hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models; servers and tests share the cores

# A shell starts what runs in its background with Ctrl-C ignored; tests of an interrupt need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)

SKIPS_ALLOWED_IN_CI = (
    "needs CUDA",
    "needs rights that can be taken away",  # CI runs as root
)
"""The one place that lists why a test may be skipped in CI; any other skip there is a failure."""


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """The design folder beside the checkout: recordings and real AI Toolkit files."""
    folder = REPO.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the shared folder with recordings is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def bicep() -> Iterator[BicepCompiler]:
    """The Bicep compiler, running."""
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn a skip for a reason that is not listed into a failure, in CI."""
    report = yield
    if os.environ.get("CI") and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(SKIPS_ALLOWED_IN_CI):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where nothing may be missing: {reason}"
    return report
