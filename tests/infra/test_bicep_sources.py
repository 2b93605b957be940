"""The Bicep files: committed as compiled, clean by a strict linter, every parameter described and bounded."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.azure.arm import deployment
from nbtoolkit.azure.arm.deployment import load_template
from nbtoolkit.infra_files import schema
from nbtoolkit.serving.gateway.config import GatewayConfig
from tests.support.bicep_compiler import BicepCompiler, BicepFailed


@pytest.fixture(scope="module")
def folder(repo: Path) -> Path:
    return repo / "infra" / "provision"


def test_the_committed_template_equals_the_compiled_one(bicep: BicepCompiler, folder: Path) -> None:
    compiled = bicep.compile(folder / "inference.bicep")
    generator = load_template()["metadata"]["_generator"]["version"]
    assert generator.startswith(bicep.version()), "another compiler version than that of the template"
    committed = (folder / "inference.json").read_text(encoding="utf-8")
    assert compiled.text + "\n" == committed, "run `make bicep`"
    assert list(map(str, compiled.diagnostics)) == []


def test_the_sources_pass_the_linter_and_the_formatter(bicep: BicepCompiler, folder: Path) -> None:
    files = sorted(folder.rglob("*.bicep"))
    assert len(files) == 5
    for path in files:
        assert bicep.format(path) == path.read_text(encoding="utf-8"), f"run `make bicep`: {path.name}"
        assert bicep.lint(path) == []


def test_the_linter_is_strict(bicep: BicepCompiler, folder: Path, tmp_path: Path) -> None:
    rules = json.loads((folder / "bicepconfig.json").read_text())["analyzers"]["core"]["rules"]
    assert {rule["level"] for rule in rules.values()} <= {"error", "warning"}
    assert len(rules) >= 43
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "inference.bicep"
    text = re.sub(r"#disable-next-line.*\n", "", path.read_text(encoding="utf-8"))
    path.write_text(text + "\nvar idle = concat('a', suffix)\n", encoding="utf-8")
    with pytest.raises(BicepFailed) as failed:
        bicep.compile(path)
    codes = {diagnostic.code for diagnostic in failed.value.diagnostics}
    assert codes == {"no-loc-expr-outside-params", "no-unused-vars", "prefer-interpolation"}


def test_every_parameter_and_output_is_described_and_bounded() -> None:
    for name, parameter in load_template()["parameters"].items():
        assert parameter["metadata"]["description"], name
        bounds = {"minLength", "maxLength", "minValue", "maxValue", "allowedValues"} & set(parameter)
        free = parameter.get("type", "a closed type") in ("a closed type", "bool", "object", "secureObject")
        assert free or bounds, name
    assert all(output["metadata"]["description"] for output in load_template()["outputs"].values())


def test_every_parameter_except_secrets_is_nullable_and_in_the_parameter_file(folder: Path) -> None:
    parameters = load_template()["parameters"]
    file = json.loads((folder / "inference.parameters.json").read_text())["parameters"]
    assert [name for name, entry in parameters.items() if not entry.get("nullable")] == ["secrets"]
    assert list(file) == list(schema.INFERENCE_PARAMETERS)
    assert set(file) | {"secrets"} == set(parameters)
    assert set(map(json.dumps, file.values())) == {'{"value": null}'}


def test_the_container_runs_the_unchanged_bootstrap(bicep: BicepCompiler, folder: Path) -> None:
    text = (folder / "bootstrap.py").read_bytes().decode()
    resources = bicep.snapshot(load_template())["predictedResources"]
    (container,) = resources[-1]["properties"]["template"]["containers"]
    assert container["command"] == ["python3", "-u", "-c", text]
    assert "$(" not in text  # Kubernetes would substitute an environment variable
    assert len(text.encode()) < 128 * 1024  # the length limit of an argument in Linux


def test_list_keys_is_called_only_for_created_resources() -> None:
    """Azure evaluates list functions of undeployed resources as well, and fails if one does not exist."""
    calls = re.findall(r"\[[^\[\"]*listKeys[^\"]*", json.dumps(load_template()))
    assert len(calls) == 2
    assert all(text.startswith("[if(parameters('create") for text in calls)


def test_the_termination_grace_period_covers_the_drain_timeout() -> None:
    grace = load_template()["parameters"]["terminationGraceSeconds"]
    assert grace["minValue"] >= GatewayConfig.drain_timeout


def test_the_wheel_contains_the_template(repo: Path) -> None:
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    packaged = Path(deployment.__file__).with_name("inference.json").relative_to(repo)
    assert included == {"infra/provision/inference.json": packaged.as_posix()}
    assert (
        json.loads((repo / "infra/provision/inference.json").read_text(encoding="utf-8")) == load_template()
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpu": "H100"},
        {"engine": "llama"},
        {"maximumInstanceCount": 0},
        {"minimumInstanceCount": -1},
        {"terminationGraceSeconds": 29},
        {"storageAccountName": "ab"},
        {"secretNames": []},
        {"customDomains": [{"name": "a", "bindingType": "maybe"}]},
        {"unheard": 1},
    ],
    ids=json.dumps,
)
def test_values_out_of_bounds_are_rejected(bicep: BicepCompiler, wrong: dict[str, Any]) -> None:
    with pytest.raises(BicepFailed) as failed:
        bicep.snapshot(load_template(), wrong)
    assert failed.value.diagnostics
