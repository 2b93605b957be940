"""The usage examples in the docstrings of the names that people start with run and print what they show."""

from __future__ import annotations

import doctest
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbtoolkit
from nbtoolkit import DeploySettings, LocalTarget, Workspace, deploy
from nbtoolkit.azure.clients import Cloud
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support import stub_deploy, tiny_models

SETTINGS = ("SmokeSettings", "DeploySettings", "ProvisionSettings")


def run_example(name: str, **variables: Any) -> None:
    """Run the example of an exported name; ``variables`` are defined in it, as every exported name is."""
    target = getattr(nbtoolkit, name)
    exported = {public: getattr(nbtoolkit, public) for public in nbtoolkit.__all__}
    test = doctest.DocTestFinder(recurse=False).find(target, name, globs=exported | variables)[0]
    assert test.examples, f"the docstring of {name} has no example"
    assert not any(doctest.SKIP in one.options for one in test.examples)
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not failed, "".join(report)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny base ``models/base`` and the adapter ``adapters/tone``."""
    root = tmp_path_factory.mktemp("models")
    base = tiny_models.tiny_base(root / "models/base")
    tiny_models.tiny_adapter(root / "adapters/tone", base)
    return root


@pytest.mark.parametrize("name", ["Workspace", "Adapter", "Base", "smoke_test", *SETTINGS])
def test_example(name: str, models: Path, workspace_root: Path) -> None:
    shutil.copytree(models, workspace_root, dirs_exist_ok=True)
    run_example(name)


@pytest.fixture
def deployable(workspace_root: Path, stub_engine: None) -> Iterator[Path]:
    """A workspace whose deploys start a stub engine, which answers with the word tone."""
    base = stub_deploy.base(workspace_root / "models/base")
    adapter = stub_deploy.adapter(workspace_root / "adapters/tone", "tone")
    stub_deploy.report(Workspace(workspace_root), adapter, base, "tone")
    yield workspace_root
    LocalTarget(Workspace(workspace_root)).destroy()


def test_example_of_deploy(deployable: Path) -> None:
    run_example("deploy")


def test_example_of_endpoint(deployable: Path) -> None:
    served = deploy(DeploySettings(adapters=["adapters/tone"], base="models/base")).endpoint
    run_example("Endpoint", url=served.url, key=served.key)


def test_example_of_provision(azure_double: AzureDouble, workspace_root: Path) -> None:
    azure_double.clock.scale = 0.002
    groups = Cloud.shared().resources(SUBSCRIPTION).resource_groups
    groups.create_or_update("my-rg", {"location": "westus3"})
    run_example("provision", subscription=SUBSCRIPTION)
