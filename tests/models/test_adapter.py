"""An adapter is described from its headers, and a folder that is not an adapter is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.errors import BrokenFile, InvalidAdapter
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.safetensors_header import TensorInfo, read_header
from nbtoolkit.serving.content_hash import ADAPTER_FILES, TEMPLATES
from tests.support.model_folders import LORA, header_of, write_adapter, write_header, write_tensors

CANARY = "<img src=x onerror=alert(1)>"
DATA = 2 * 8 * 16 * 4
NAMES = list(LORA)


def refusal(folder: Path) -> str:
    with pytest.raises(InvalidAdapter) as caught:
        Adapter.read(folder)
    text = str(caught.value)
    assert str(folder) in text
    assert text.startswith(f"{caught.value.check}: ")
    return text


def test_read_returns_configuration_and_tensors(tmp_path: Path) -> None:
    folder = write_adapter(
        tmp_path / "tone",
        use_rslora=True,
        rank_pattern={"q_proj": 24, "v_proj": 4},
        alpha_pattern={"q_proj": 3},
    )
    adapter = Adapter.read(folder)
    header = read_header(adapter.weights)
    assert (adapter.name, adapter.base_name, adapter.rank) == ("tone", "org/base", 24)
    assert (adapter.use_rslora, adapter.alpha_pattern, adapter.config["lora_alpha"]) == (
        True,
        {"q_proj": 3},
        16,
    )
    assert adapter.tensors[NAMES[1]] == TensorInfo("F32", (16, 8), header.data_start + 512, header.file_size)
    assert adapter.tensors[NAMES[1]].size == 512
    assert adapter.metadata == {"format": "pt"}
    assert adapter.size == sum(file.stat().st_size for file in folder.iterdir())


def test_header_equals_that_of_the_safetensors_library(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = write_tensors(
        tmp_path / "file.safetensors", {**LORA, "empty": ("F16", [0, 4]), "scalar": ("BF16", [])}
    )
    header = read_header(path)
    with safe_open(path, framework="np") as reference:
        assert sorted(header.tensors) == sorted(reference.keys())
        for name, tensor in header.tensors.items():
            slice_ = reference.get_slice(name)
            assert (tensor.dtype, list(tensor.shape)) == (slice_.get_dtype(), slice_.get_shape())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_gigabyte_is_described_within_milliseconds(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "large")
    shapes = {f"{name}.{i}": ("F32", [1024, 1024 * 8]) for name in NAMES for i in range(16)}
    write_tensors(folder / "adapter_model.safetensors", shapes)
    assert (folder / "adapter_model.safetensors").stat().st_size > 1 << 30
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from nbtoolkit.models.adapter import Adapter\n"
        "start = time.perf_counter()\n"
        "adapter = Adapter.read(sys.argv[1]); str(adapter)\n"
        "seconds = time.perf_counter() - start\n"
        "status = Path('/proc/self/status').read_text()\n"  # getrusage counts the parent's memory at the fork
        "peak = int(status.partition('VmHWM:')[2].split()[0]) / 1024\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'pydantic'} & set(sys.modules)\n"
        "print(seconds, peak, len(adapter.tensors), len(heavy))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    seconds, megabytes, tensors, heavy = map(float, out.stdout.split())
    assert seconds < 0.2
    assert megabytes < 50  # of the whole process, the interpreter included
    assert (tensors, heavy) == (32, 0)


def test_hash_depends_on_content_and_not_on_location(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one")
    first = Adapter.read(folder)
    other = Adapter.read(shutil.copytree(folder, tmp_path / "elsewhere" / "two"))
    assert first == other
    assert first.sha256 == other.sha256
    assert Adapter.read(write_adapter(tmp_path / "three", fill=b"\2")) != first
    assert Adapter.read(write_adapter(tmp_path / "four", r=4)).sha256 != first.sha256


def test_hash_depends_only_on_served_files(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "checkpoint")
    before = Adapter.read(folder).sha256
    for name in ("optimizer.pt", "training_args.bin", "README.md", ".env"):
        (folder / name).write_text("x")
    (folder / "checkpoint-10").mkdir()
    assert Adapter.read(folder).sha256 == before
    (folder / "tokenizer.json").write_text("{}")
    adapter = Adapter.read(folder)
    assert adapter.sha256 != before
    assert [file.name for file in adapter.files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
    ]
    assert {file.name for file in adapter.files} <= set(ADAPTER_FILES)
    assert list(adapter.named_files) == [file.name for file in adapter.files]


def test_named_templates_belong_to_the_hash(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    before = Adapter.read(folder).sha256
    (folder / TEMPLATES).mkdir()
    template = folder / TEMPLATES / "tool_use.jinja"
    template.write_text("with tools")
    first = Adapter.read(folder)
    assert list(first.named_files)[-1] == "additional_chat_templates/tool_use.jinja"
    hashes = [before, first.sha256]
    template.write_text("other")
    assert len({*hashes, Adapter.read(folder).sha256}) == 3


def test_missing_folder_is_refused_with_the_nearest_adapter(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing")
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(b"")
    assert "is a file, not a folder" in refusal(file)
    run = tmp_path / "run"
    inner = write_adapter(run / "adapter")
    assert f"perhaps {inner}" in refusal(run)


def test_broken_configuration_is_refused_with_line_and_key(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_text('{\n "r": 8,\n "lora_alpha": }')
    text = refusal(folder)
    assert text.startswith("A1: ")
    assert "line 3, column 16, near the key 'lora_alpha'" in text
    (folder / "adapter_config.json").write_text("[1]")
    assert "wanted an object in braces, found list" in refusal(folder)


def test_file_without_tensors_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    path = write_header(folder / "adapter_model.safetensors", {"__metadata__": {"format": "pt"}}, 0)
    path.write_bytes(path.read_bytes().replace(b": ", b":").replace(b"\x22\0", b"\x20\0", 1))
    assert path.stat().st_size == 40
    assert "A1" in refusal(folder)
    assert "(40 bytes) has no tensors" in refusal(folder)


@pytest.mark.parametrize(
    ("names", "check", "message"),
    [
        ([], "A1", "has adapter_config.json but no adapter_model.safetensors"),
        (["adapter_model.bin"], "A2", "weights are pickles (adapter_model.bin)"),
        (["adapter_model.pt"], "A2", "weights are pickles (adapter_model.pt)"),
        (["adapter_model-00001-of-00002.safetensors"], "A1", "sharded"),
        (["adapter_model.safetensors.index.json"], "A1", "sharded"),
    ],
)
def test_other_weight_formats_are_refused(tmp_path: Path, names: list[str], check: str, message: str) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").unlink()
    for name in names:
        (folder / name).write_bytes(b"x")
    text = refusal(folder)
    assert text.startswith(f"{check}: ")
    assert message in text


def test_other_weights_are_listed_and_not_read(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_model.bin").write_bytes(b"not read")
    adapter = Adapter.read(folder)
    assert adapter.other_weights == (folder / "adapter_model.bin",)
    assert adapter.other_weights[0] not in adapter.files


def entry(**changes: Any) -> dict[str, Any]:
    return {"t": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (header_of(LORA), DATA - 1, "truncated: its header needs"),
        (header_of(LORA), DATA + 3, "3 bytes follow the last tensor"),
        (entry(data_offsets=[0, 12]), 12, "'t' (F32 [2, 2]) needs 16 bytes and its offsets span 12"),
        (entry(data_offsets=[4, 20]), 20, "leaves a hole before it"),
        ({**entry(), "u": entry()["t"]}, 16, "overlaps the one before it"),
        (entry(dtype="F33"), 16, "unknown type 'F33'"),
        (entry(shape=[2, -2]), 16, "lacks dtype, shape or data_offsets"),
        (entry(shape=[2.0, 2]), 16, "lacks dtype, shape or data_offsets"),
        (entry(data_offsets="0-16"), 16, "lacks dtype, shape or data_offsets"),
        ({"t": 3}, 0, "lacks dtype, shape or data_offsets"),
        ([1], 0, "not a JSON object"),
        (b'{"t": ', 0, "its header is not a JSON object: expecting value"),
        (b"\xff\xfe", 0, "its header is not a JSON object: 'utf-8' codec"),
        (b"\xef\xbb\xbf{}", 0, "its header is not a JSON object: it starts with a byte order mark"),
        (b'{"t": ' + b"9" * 5000 + b"}", 0, "its header is not a JSON object: exceeds the limit"),
        (b'{"t": 1, "t": 2}', 0, "'t' appears twice"),
        ({"__metadata__": {"a": 1}}, 0, "__metadata__ is not a mapping of strings"),
    ],
)
def test_damaged_header_is_refused(tmp_path: Path, header: Any, data: int, message: str) -> None:
    folder = write_adapter(tmp_path / "a")
    path = write_header(folder / "adapter_model.safetensors", header, data)
    with pytest.raises(BrokenFile) as caught:
        read_header(path)
    assert message in caught.value.problem
    assert f"A1: the adapter {folder}: adapter_model.safetensors is damaged: " in refusal(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes and no header"),
        (b"\1\0", "2 bytes and no header"),
        ((1000).to_bytes(8, "little") + b"{}", "truncated: its header needs 1008 bytes and the file has 10"),
        (b"\xff" * 64, "not a safetensors file, or damaged"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git-lfs pointer"),
        (b"PK\x03\x04" + b"\0" * 60, "PyTorch pickle"),
        (b"<!doctype html><html>404</html>", "web page"),
    ],
)
def test_file_of_another_format_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BrokenFile, match=message) as caught:
        read_header(path)
    assert ("git lfs pull" in caught.value.next_step) == ("git-lfs" in message)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    whole = write_tensors(
        tmp_path / "whole.safetensors", {"a": ("F16", [3]), "b": ("F16", [1, 2])}
    ).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(BrokenFile):
            read_header(cut)


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="cannot be read: Is a directory"):
        read_header(tmp_path)
    with pytest.raises(BrokenFile, match="cannot be read: No such file"):
        read_header(tmp_path / "missing")


@pytest.mark.parametrize(
    "config", [{"r": 0}, {"r": "8"}, {"r": None}, {"r": True}, {"rank_pattern": {"q": -1}}]
)
def test_invalid_rank_is_refused_on_access(tmp_path: Path, config: dict[str, Any]) -> None:
    adapter = Adapter.read(write_adapter(tmp_path / "a", **config))
    assert "rank" in str(adapter)  # the description still works, for the report
    with pytest.raises(InvalidAdapter, match="A3"):
        _ = adapter.rank


def test_adapter_is_shown_as_text_and_escaped_html(tmp_path: Path) -> None:
    adapter = Adapter.read(write_adapter(tmp_path / "tone", base_model_name_or_path=CANARY))
    assert "Adapter tone\n" in str(adapter)
    assert "rank     8" in str(adapter)
    assert "2 (F32)" in str(adapter)
    assert CANARY in str(adapter)
    assert CANARY not in adapter._repr_html_()
    assert "&lt;img" in adapter._repr_html_()
    assert json.loads((adapter.path / "adapter_config.json").read_text())["r"] == 8
