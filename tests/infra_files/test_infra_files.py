"""The AI Toolkit's files: round trips, values, messages, paths and atomic writes."""

from __future__ import annotations

import json
import os
import shutil
import stat
from itertools import takewhile
from pathlib import Path

import pytest

from nbtoolkit.errors import BrokenFile, InvalidSettings, StoreError
from nbtoolkit.infra_files import InfraFile, InfraFiles
from nbtoolkit.infra_files.schema import endpoint_url
from nbtoolkit.workspace import Workspace

CONFIG = """{
  "SUBSCRIPTION_ID": null,
  "RESOURCE_GROUP_NAME": "my-group",
  "STORAGE_ACCOUNT_NAME": null,
  "FILE_SHARE_NAME": null,
  "ACA_APP_NAME": null,
  "ACA_APP_ENDPOINT": null,
  "madeBy": {"tool": "someone's",   "version": [1,2]}
}"""

PARAMETERS = """{
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#",
  "contentVersion": "1.0.0.0",
  "parameters": {
    "defaultCommands": {
      "value": [
        "cd /mount",
        "python3 ./serve.py"
      ]
    },
    "maximumInstanceCount": {
      "value": 2
    },
    "location": {
      "value": null
    },
    "ourOwn": { "value": {"deep": [1, {"a": null}]}, "metadata": {"why": "ünïcode"} },
    "acaAppName": {
      "value": null
    }
  }
}"""


@pytest.fixture
def infra(workspace_root: Path) -> InfraFiles:
    (workspace_root / "infra/provision").mkdir()
    return InfraFiles(Workspace(workspace_root))


def write_config(infra: InfraFiles, text: str, name: str = "inference.config.json") -> Path:
    path = infra.workspace.path(f"infra/{name}")
    path.write_bytes(text.encode())
    return path


def write_parameters(infra: InfraFiles, text: str = PARAMETERS) -> Path:
    return write_config(infra, text, "provision/inference.parameters.json")


def all_four(infra: InfraFiles) -> list[InfraFile]:
    return [
        infra.inference_config,
        infra.finetuning_config,
        infra.inference_parameters,
        infra.finetuning_parameters,
    ]


def difference(before: str, after: str) -> tuple[str, str]:
    """Return what differs between two texts that agree before and after it."""
    start = common_prefix(before, after)
    end = common_prefix(before[start:][::-1], after[start:][::-1])
    return before[start : len(before) - end], after[start : len(after) - end]


def common_prefix(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


class TestRealFiles:
    @pytest.fixture
    def real(self, shared: Path, tmp_path: Path) -> InfraFiles:
        root = tmp_path / "project"
        shutil.copytree(shared / "aitk" / "Phi-3-mini-4k-instruct", root)
        for path in [root, *root.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
        return InfraFiles(Workspace(root))

    def test_are_read_and_their_values_are_null(self, real: InfraFiles) -> None:
        assert real.inference_config.get("SUBSCRIPTION_ID") is None
        assert real.inference_parameters.get("maximumInstanceCount") == 2
        assert real.inference_parameters.get("defaultCommands")[0] == "cd /mount"
        assert real.finetuning_parameters.get("timeout") == 10800
        assert real.finetuning_config.get("COMMANDS")[1] == "pip install -r ./setup/requirements.txt"
        assert real.endpoint is None

    def test_survive_a_round_trip_byte_for_byte(self, real: InfraFiles) -> None:
        for file in all_four(real):
            before = file.path.read_bytes()
            for key, value in file.values().items():
                file.set(key, value)
            assert file.save() is False
            first = next(iter(file.values()))
            old = file.get(first)
            file.set(first, ["other"] if isinstance(old, list) else "other")
            assert file.save() is True
            assert file.path.read_bytes() != before
            file.set(first, old)
            file.save()
            assert file.path.read_bytes() == before

    def test_one_changed_value_changes_only_its_bytes(self, real: InfraFiles) -> None:
        for file, key in zip(
            all_four(real), ["ACA_APP_NAME", "FILE_SHARE_NAME", "acaAppName", "location"], strict=True
        ):
            before = file.path.read_bytes().decode()
            file.set(key, "chosen")
            file.save()
            assert difference(before, file.path.read_bytes().decode()) == ("null", '"chosen"')


def test_an_unchanged_file_with_unknown_keys_is_not_written(infra: InfraFiles) -> None:
    path = write_config(infra, CONFIG)
    before = path.stat().st_mtime_ns
    file = infra.inference_config
    file.set("RESOURCE_GROUP_NAME", "my-group")
    assert file.save() is False
    assert path.stat().st_mtime_ns == before
    assert path.read_text() == CONFIG


def test_a_list_is_replaced_with_the_indent_of_the_file(infra: InfraFiles) -> None:
    path = write_parameters(infra)
    file = infra.inference_parameters
    file.set("defaultCommands", ["cd /mount", "./start é"])
    file.save()
    assert path.read_text(encoding="utf-8") == PARAMETERS.replace("python3 ./serve.py", "./start é")


def test_one_line_lists_numbers_and_escapes_of_other_keys_survive(infra: InfraFiles) -> None:
    text = CONFIG.replace("[1,2]", '[1, 2.50, 1E3, "\\u00fc", "\\/"]')
    path = write_config(infra, text)
    file = infra.inference_config
    file.set("ACA_APP_NAME", "app")
    file.save()
    assert path.read_text() == text.replace('"ACA_APP_NAME": null', '"ACA_APP_NAME": "app"')


@pytest.mark.parametrize("change", ["\r\n", "\t", "\ufeff", "final newline"])
def test_newlines_tabs_and_byte_order_marks_survive(infra: InfraFiles, change: str) -> None:
    text = {
        "\r\n": PARAMETERS.replace("\n", "\r\n"),
        "\t": PARAMETERS.replace("  ", "\t"),
        "\ufeff": "\ufeff" + PARAMETERS,
        "final newline": PARAMETERS + "\n",
    }[change]
    path = write_parameters(infra, text)
    file = infra.inference_parameters
    file.set("defaultCommands", ["cd /mount", "other"])
    file.save()
    assert path.read_bytes().decode() == text.replace("python3 ./serve.py", "other")


def test_a_missing_key_is_added_at_the_end_with_the_same_indent(infra: InfraFiles) -> None:
    path = write_parameters(infra)
    file = infra.inference_parameters
    file.set("acaLogAnalyticsName", "logs")
    file.save()
    added = ',\n    "acaLogAnalyticsName": {\n      "value": "logs"\n    }'
    assert difference(PARAMETERS, path.read_text(encoding="utf-8")) == ("", added)
    assert infra.inference_parameters.get("acaLogAnalyticsName") == "logs"


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("{}", '{"ACA_APP_NAME": "app"}'),
        ('{"a": 1}', '{"a": 1, "ACA_APP_NAME": "app"}'),
        ("{\n}", '{\n  "ACA_APP_NAME": "app"\n}'),
        ('{"a":1,"ACA_APP_NAME":null}', '{"a":1,"ACA_APP_NAME":"app"}'),
    ],
)
def test_files_on_one_line_stay_on_one_line(infra: InfraFiles, text: str, after: str) -> None:
    path = write_config(infra, text)
    file = infra.inference_config
    file.set("ACA_APP_NAME", "app")
    file.save()
    assert path.read_text() == after


def test_a_missing_parameters_object_is_added(infra: InfraFiles) -> None:
    write_parameters(infra, '{\n  "contentVersion": "1.0.0.0"\n}')
    file = infra.inference_parameters
    file.set("location", "westus3")
    file.save()
    assert json.loads(file.path.read_text())["parameters"] == {"location": {"value": "westus3"}}


def test_null_and_blank_text_mean_the_default(infra: InfraFiles) -> None:
    write_config(infra, CONFIG.replace('"my-group"', '"  "'))
    config = infra.inference_config
    assert config.get("RESOURCE_GROUP_NAME") is None
    assert config.get("ACA_APP_NAME") is None
    assert config.get("NOT_THERE") is None


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "message"),
    [
        ('"my-group",', '"my-group"', 4, "STORAGE_ACCOUNT_NAME", "delimiter"),
        ('null,\n  "madeBy"', 'nil,\n  "madeBy"', 7, "ACA_APP_ENDPOINT", "expecting value"),
        ('"FILE_SHARE_NAME"', '"SUBSCRIPTION_ID"', 5, "SUBSCRIPTION_ID", "twice"),
        ('"my-group"', "17", 3, "RESOURCE_GROUP_NAME", "wanted a text or null, found 17"),
    ],
)
def test_the_error_of_a_broken_file_has_line_and_key(
    infra: InfraFiles, old: str, new: str, line: int, key: str, message: str
) -> None:
    path = write_config(infra, CONFIG.replace(old, new, 1))
    with pytest.raises(BrokenFile, match=message) as caught:
        _ = infra.inference_config
    assert (caught.value.line, caught.value.key) == (line, key)
    assert str(path) in str(caught.value)
    assert f"line {line}" in str(caught.value)


def test_the_error_of_a_duplicate_key_has_its_position(infra: InfraFiles) -> None:
    write_parameters(infra, PARAMETERS.replace('"value": 2', '"value": 2,\n      "value": 3'))
    with pytest.raises(
        BrokenFile, match="line 13, column 7, near the key 'value': the key 'value' appears twice"
    ):
        _ = infra.inference_parameters
    write_config(infra, '{\n "list": [{"a": 1, "a": 2}]\n}')
    with pytest.raises(BrokenFile, match="the key 'a' appears twice"):
        _ = infra.inference_config


def test_the_error_lists_every_value_of_the_wrong_type(infra: InfraFiles) -> None:
    text = PARAMETERS.replace('"value": 2', '"value": "2"').replace('"value": null', '"value": 7')
    write_parameters(infra, text)
    with pytest.raises(BrokenFile) as caught:
        _ = infra.inference_parameters
    message = str(caught.value)
    assert "key 'maximumInstanceCount': wanted a whole number above 0 or null, found \"2\"" in message
    assert message.count("wanted a text or null, found 7") == 2


@pytest.mark.parametrize("broken", ['"parameters": 3', '"parameters": {"location": "westus3"}'])
def test_a_parameter_file_with_another_structure_is_rejected(infra: InfraFiles, broken: str) -> None:
    write_parameters(infra, "{" + broken + "}")
    with pytest.raises(BrokenFile, match="wanted an object"):
        _ = infra.inference_parameters


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONFIG.encode("utf-16"), "is UTF-16 text"),
        (b'{"name": "M\xfcller"}', "not UTF-8 text: byte 11 is 0xfc"),
    ],
)
def test_another_encoding_is_named_in_the_error(infra: InfraFiles, content: bytes, message: str) -> None:
    infra.workspace.path("infra/inference.config.json").write_bytes(content)
    with pytest.raises(BrokenFile, match=message):
        _ = infra.inference_config


def test_set_rejects_a_wrong_type_and_changes_nothing(infra: InfraFiles) -> None:
    write_parameters(infra)
    file = infra.inference_parameters
    for key, value in [("maximumInstanceCount", "2"), ("maximumInstanceCount", True), ("location", 3)]:
        with pytest.raises(InvalidSettings, match=key):
            file.set(key, value)
    assert file.save() is False


def test_parameter_names_ignore_case_as_azure_does(infra: InfraFiles) -> None:
    path = write_parameters(infra, PARAMETERS.replace("acaAppName", "AcaAppname"))
    file = infra.inference_parameters
    file.set("acaAppName", "app")
    file.save()
    assert json.loads(path.read_text(encoding="utf-8"))["parameters"]["AcaAppname"] == {"value": "app"}
    write_parameters(infra, PARAMETERS.replace("location", "ACAAPPNAME"))
    with pytest.raises(BrokenFile, match="same parameter"):
        _ = infra.inference_parameters


def test_getting_a_key_vault_reference_is_an_error(infra: InfraFiles) -> None:
    reference = '"acaAppName": {"reference": {"keyVault": {"id": "/x"}, "secretName": "s"}}'
    write_parameters(infra, '{"parameters": {' + reference + ', "location": {"value": "westus3"}}}')
    file = infra.inference_parameters
    assert file.get("location") == "westus3"
    with pytest.raises(InvalidSettings, match="key vault"):
        file.get("acaAppName")
    file.set("acaAppName", "app")
    assert file.get("acaAppName") == "app"


def test_both_paths_of_the_parameter_file_are_found(infra: InfraFiles) -> None:
    write_config(infra, PARAMETERS, "inference.parameters.json")
    file = infra.inference_parameters
    assert file.path == infra.workspace.path("infra/inference.parameters.json")
    assert file.get("maximumInstanceCount") == 2


def test_two_parameter_files_that_differ_are_rejected(infra: InfraFiles) -> None:
    one = write_parameters(infra)
    other = write_config(infra, PARAMETERS + "\n", "inference.parameters.json")
    with pytest.raises(InvalidSettings) as caught:
        _ = infra.inference_parameters
    assert str(one) in str(caught.value)
    assert str(other) in str(caught.value)


def test_two_equal_parameter_files_stay_equal(infra: InfraFiles) -> None:
    one = write_parameters(infra)
    other = write_config(infra, PARAMETERS, "inference.parameters.json")
    file = infra.inference_parameters
    file.set("location", "westus3")
    file.save()
    assert one.read_bytes() == other.read_bytes()
    assert infra.inference_parameters.get("location") == "westus3"


def test_a_missing_parameter_file_is_an_error_and_can_be_created(infra: InfraFiles, repo: Path) -> None:
    with pytest.raises(InvalidSettings, match="create_inference_parameters"):
        _ = infra.inference_parameters
    file = infra.create_inference_parameters()
    assert file.path.read_bytes() == (repo / "infra/provision/inference.parameters.json").read_bytes()
    assert set(infra.inference_parameters.values().values()) == {None}


def test_save_creates_a_missing_config_file(infra: InfraFiles) -> None:
    config = infra.inference_config
    assert config.exists is False
    assert config.get("SUBSCRIPTION_ID") is None
    config.set("ACA_APP_NAME", "app")
    config.save()
    assert list(json.loads(config.path.read_text())) == [
        "SUBSCRIPTION_ID",
        "RESOURCE_GROUP_NAME",
        "STORAGE_ACCOUNT_NAME",
        "FILE_SHARE_NAME",
        "ACA_APP_NAME",
        "ACA_APP_ENDPOINT",
    ]
    assert infra.inference_config.get("ACA_APP_NAME") == "app"


@pytest.mark.parametrize("meanwhile", ["changed", "deleted", "created"])
def test_a_file_that_changed_on_disk_is_not_overwritten(infra: InfraFiles, meanwhile: str) -> None:
    if meanwhile != "created":
        write_config(infra, CONFIG)
    file = infra.inference_config
    file.set("ACA_APP_NAME", "mine")
    other = CONFIG.replace('"my-group"', '"theirs"')
    if meanwhile == "deleted":
        file.path.unlink()
    else:
        file.path.write_text(other)
    with pytest.raises(StoreError, match="read it again"):
        file.save()
    assert not file.path.exists() if meanwhile == "deleted" else file.path.read_text() == other


def test_save_keeps_the_mode_and_a_symbolic_link(infra: InfraFiles, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.json"
    real.write_text(CONFIG)
    real.chmod(0o640)
    link = infra.workspace.path("infra/inference.config.json")
    link.symlink_to(real)
    file = infra.inference_config
    file.set("ACA_APP_NAME", "app")
    file.save()
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert json.loads(real.read_text())["ACA_APP_NAME"] == "app"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".nbtoolkit", "elsewhere.json", "infra"]


def test_a_failed_write_keeps_the_old_file(infra: InfraFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(infra, CONFIG)
    file = infra.inference_config
    file.set("ACA_APP_NAME", "app")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StoreError, match="No space left on device"):
        file.save()
    assert path.read_text() == CONFIG
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, "provision"]


@pytest.mark.parametrize(
    "written", ["app.region.azurecontainerapps.io", "https://app.region.azurecontainerapps.io/"]
)
def test_the_scheme_of_the_endpoint_is_optional(infra: InfraFiles, written: str) -> None:
    write_config(infra, CONFIG.replace('"ACA_APP_ENDPOINT": null', f'"ACA_APP_ENDPOINT": "{written}"'))
    assert infra.endpoint == "https://app.region.azurecontainerapps.io"


def test_an_invalid_endpoint_is_rejected() -> None:
    assert endpoint_url("http://127.0.0.1:8000") == "http://127.0.0.1:8000"
    for wrong in ("not an address", "ftp://x", "https://", "javascript:alert(1)"):
        with pytest.raises(InvalidSettings, match="not an address"):
            endpoint_url(wrong)


def test_the_text_lists_keys_and_values(infra: InfraFiles) -> None:
    write_config(infra, CONFIG)
    text = str(infra.inference_config)
    assert 'RESOURCE_GROUP_NAME  = "my-group"' in text
    assert "ACA_APP_NAME         = null" in text
