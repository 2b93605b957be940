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


def test_the_committed_template_is_what_the_compiler_makes(bicep: BicepCompiler, folder: Path) -> None:
    compiled = bicep.compile(folder / "inference.bicep")
    generator = load_template()["metadata"]["_generator"]["version"]
    assert generator.startswith(bicep.version()), "another compiler than the one that made the template"
    committed = (folder / "inference.json").read_text(encoding="utf-8")
    assert compiled.text + "\n" == committed, "run `make bicep`"
    assert list(map(str, compiled.diagnostics)) == []


def test_nothing_is_found_by_the_linter_nor_changed_by_the_formatter(
    bicep: BicepCompiler, folder: Path
) -> None:
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


def test_every_parameter_but_the_secrets_may_be_null_and_stands_in_the_parameter_file(folder: Path) -> None:
    parameters = load_template()["parameters"]
    file = json.loads((folder / "inference.parameters.json").read_text())["parameters"]
    assert [name for name, entry in parameters.items() if not entry.get("nullable")] == ["secrets"]
    assert list(file) == list(schema.INFERENCE_PARAMETERS)
    assert set(file) | {"secrets"} == set(parameters)
    assert set(map(json.dumps, file.values())) == {'{"value": null}'}


def test_the_container_runs_the_bootstrap_as_it_is(bicep: BicepCompiler, folder: Path) -> None:
    text = (folder / "bootstrap.py").read_bytes().decode()
    resources = bicep.snapshot(load_template())["predictedResources"]
    (container,) = resources[-1]["properties"]["template"]["containers"]
    assert container["command"] == ["python3", "-u", "-c", text]
    assert "$(" not in text  # the platform would put an environment variable in its place
    assert len(text.encode()) < 128 * 1024  # the longest argument that Linux takes


def test_keys_are_looked_up_only_where_they_are_needed() -> None:
    """Azure evaluates list functions of resources that are not deployed, too, and fails where nothing is."""
    looked_up = re.findall(r"\[[^\[\"]*listKeys[^\"]*", json.dumps(load_template()))
    assert len(looked_up) == 2
    assert all(text.startswith("[if(parameters('create") for text in looked_up)


def test_a_replica_is_never_ended_before_it_could_drain() -> None:
    grace = load_template()["parameters"]["terminationGraceSeconds"]
    assert grace["minValue"] >= GatewayConfig.drain_timeout


def test_the_package_carries_the_template(repo: Path) -> None:
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    beside = Path(deployment.__file__).with_name("inference.json").relative_to(repo)
    assert included == {"infra/provision/inference.json": beside.as_posix()}
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
def test_values_out_of_bounds_are_refused(bicep: BicepCompiler, wrong: dict[str, Any]) -> None:
    with pytest.raises(BicepFailed) as failed:
        bicep.snapshot(load_template(), wrong)
    assert failed.value.diagnostics
