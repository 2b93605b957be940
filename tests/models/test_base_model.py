"""A base model is resolved by path or hub name, and described from its headers."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.errors import InvalidBase, MissingDependency
from nbtoolkit.models import base_model_files
from nbtoolkit.models.base_model import Base
from nbtoolkit.workspace import Workspace
from tests.support.hub_server import REVISION, HubServer, serve_hub
from tests.support.model_folders import PLAIN, Shapes, write_base, write_tensors

CANARY = "<img src=x onerror=alert(1)>"


def sharded(folder: Path, parts: list[Shapes], **weight_map: str) -> Path:
    write_base(folder)
    (folder / "model.safetensors").unlink()
    placed: dict[str, str] = {}
    for number, shapes in enumerate(parts, 1):
        name = f"model-{number:05}-of-{len(parts):05}.safetensors"
        write_tensors(folder / name, shapes)
        placed |= dict.fromkeys(shapes, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {**placed, **weight_map}}))
    return folder


def in_hub_cache(cache: Path, name: str = "org/base") -> Path:
    """Write a model into a hub cache, laid out as by the hub's client."""
    home = cache / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(REVISION)
    return write_base(home / "snapshots" / REVISION)


def test_read_returns_configuration_and_tensors(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    base = Base.read(folder)
    assert (base.name, base.max_model_len, base.eos_token_ids) == ("base", 128, (2,))
    assert base.weight_bytes == 2 * 32 * 16 * 2
    assert base.tensors["lm_head.weight"].shape == (32, 16)
    assert not base.has_own_code
    assert [file.name for file in base.files] == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ]
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 9, 7]}')
    assert Base.read(folder).eos_token_ids == (7, 9)
    assert Base.read(write_base(tmp_path / "x", auto_map={"AutoModel": "code.Model"})).has_own_code


def test_shards_are_one_model(tmp_path: Path) -> None:
    names = list(PLAIN)
    folder = sharded(tmp_path / "base", [{name: PLAIN[name]} for name in names])
    base = Base.read(folder)
    assert sorted(base.tensors) == sorted(names)
    assert base.weight_bytes == Base.read(write_base(tmp_path / "whole")).weight_bytes
    assert len(base.weights) == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(),
            "1 of 2 weight files are missing",
        ),
        (
            lambda folder: write_tensors(
                folder / "model-00002-of-00002.safetensors", {"other": ("F32", [1])}
            ),
            "lacks 1 tensors, 'lm_head.weight' first",
        ),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{}"), "has no weight_map"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "../../secret"}}'
            ),
            "outside of the folder",
        ),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{"), "line 1"),
        (
            lambda folder: (folder / "model.safetensors.index.json").unlink(),
            "has neither model.safetensors nor",
        ),
    ],
)
def test_incomplete_shards_are_refused(tmp_path: Path, damage: Any, message: str) -> None:
    folder = sharded(tmp_path / "base", [{name: PLAIN[name]} for name in PLAIN])
    damage(folder)
    with pytest.raises(InvalidBase, match=message) as caught:
        Base.read(folder)
    assert str(folder) in str(caught.value)


def test_folder_without_a_base_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidBase, match="is not a folder"):
        Base.read(tmp_path / "missing")
    with pytest.raises(InvalidBase, match=r"has no config\.json"):
        Base.read(tmp_path)
    folder = write_base(tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidBase, match="weights are pickles"):
        Base.read(folder)
    write_tensors(folder / "model.safetensors", {})
    with pytest.raises(InvalidBase, match="have no tensors"):
        Base.read(folder)
    (folder / "config.json").write_text('{"a": }')
    with pytest.raises(InvalidBase, match=r"config\.json, line 1, column 7, near the key 'a'"):
        Base.read(folder)


def test_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_base(tmp_path / "base")
    base = Base.read(folder)
    (folder / "merges.txt").symlink_to("moved")
    with pytest.raises(InvalidBase, match=r"merges.txt is a broken link, to moved") as caught:
        Base.read(folder)
    assert caught.value.path == folder

    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(base_model_files, "file_sha256", refused)
    with pytest.raises(InvalidBase, match=r"json cannot be read: Permission denied"):
        _ = base.sha256


def test_named_templates_belong_to_the_identity(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    before = Base.read(folder).sha256
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("with documents")
    assert Base.read(folder).sha256 != before


def test_identity_depends_on_content_and_not_on_location(tmp_path: Path) -> None:
    first = Base.read(write_base(tmp_path / "base"))
    copy = Base.read(shutil.copytree(first.path, tmp_path / "elsewhere" / "base"))
    assert first.sha256 == copy.sha256
    assert first == copy
    assert first != first.named("public")
    others = [
        Base.read(write_base(tmp_path / "other-weights", fill=b"\2")),
        Base.read(write_base(tmp_path / "other-config", rope_theta=5)),
        Base.read(write_base(tmp_path / "other-shapes", {**PLAIN, "more": ("F32", [1])})),
    ]
    assert len({first.sha256, *(other.sha256 for other in others)}) == 4


def test_identity_does_not_read_all_weights(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    write_tensors(folder / "model.safetensors", {"large": ("F32", [1 << 33])})
    # A sparse file: reading it would take a minute.
    assert (folder / "model.safetensors").stat().st_size > 1 << 34
    base = Base.read(folder)
    assert len(base.sha256) == 64
    assert base.weight_bytes == 1 << 35


class TestResolve:
    @pytest.fixture
    def workspace(self, workspace_root: Path) -> Workspace:
        return Workspace(workspace_root)

    @pytest.fixture(autouse=True)
    def hub_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        import huggingface_hub.constants

        cache = tmp_path / "hub"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        return cache

    def test_folder_is_relative_to_the_workspace(self, workspace: Workspace, tmp_path: Path) -> None:
        folder = write_base(workspace.root / "models" / "mine")
        for text in ("models/mine", str(folder), folder):
            assert Base.resolve(text, workspace).path == folder
        assert Base.resolve("models/mine").path == folder  # the working directory's workspace

    def test_name_is_found_in_model_cache_and_workspace_cache(self, workspace: Workspace) -> None:
        ours = write_base(workspace.cache / "base")
        assert Base.resolve("org/base", workspace).path == ours
        theirs = write_base(workspace.root / "model-cache" / "org" / "base")
        assert Base.resolve("org/base", workspace).path == theirs

    def test_hub_name_is_found_in_the_local_hub_cache(self, workspace: Workspace, hub_cache: Path) -> None:
        snapshot = in_hub_cache(hub_cache)
        base = Base.resolve("org/base", workspace)
        assert (base.path, base.name) == (snapshot, "base")
        assert Base.read(snapshot).name == "base"
        assert Base.resolve(f"org/base@{REVISION}", workspace).path == snapshot

    def test_unknown_name_is_refused_with_the_searched_places(self, workspace: Workspace) -> None:
        write_base(workspace.root / "model-cache" / "org" / "other")
        with pytest.raises(InvalidBase, match="download=True") as caught:
            Base.resolve("org/base", workspace)
        text = str(caught.value)
        assert "In model-cache/ there are: org/other." in text
        assert str(workspace.root / "model-cache/org/base") in text
        assert "the local Hugging Face cache" in text
        with pytest.raises(InvalidBase, match="give an existing folder"):
            Base.resolve("a/b/c", workspace)
        with pytest.raises(InvalidBase, match="No base model was named"):
            Base.resolve(" ", workspace)

    def test_folder_without_configuration_ends_the_search(self, workspace: Workspace) -> None:
        (workspace.root / "org" / "base").mkdir(parents=True)
        with pytest.raises(InvalidBase, match=r"has no config\.json"):
            Base.resolve("org/base", workspace)

    def test_incomplete_download_is_refused(self, workspace: Workspace, hub_cache: Path) -> None:
        (in_hub_cache(hub_cache) / "model.safetensors").unlink()
        with pytest.raises(InvalidBase, match="finish the download"):
            Base.resolve("org/base", workspace)

    def test_missing_hub_client_names_the_extra(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(MissingDependency, match=r"pip install -e '?\S+\[model\]'"):
            Base.resolve("org/base", workspace)
        write_base(workspace.root / "here")
        assert Base.resolve("here", workspace).name == "here"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    folder = write_base(tmp_path / "remote")
    for name in ("pytorch_model.bin", "modeling_own.py"):
        (folder / name).write_bytes(b"never fetched")
    with serve_hub({"org/base": folder}) as server:
        yield server


def download(hub: HubServer, root: Path, name: str, cancel: bool = False) -> str:
    """Resolve a hub name in a process whose hub is ``hub``; return its output."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from nbtoolkit.models.base_model import Base\n"
        "from nbtoolkit.progress import PrintProgress\n"
        "from nbtoolkit.workspace import Workspace\n"
        "class Seen(PrintProgress):\n"
        "    def show_advance(self, done, total, unit):\n"
        "        self.furthest = (done, total, unit)\n"
        "        if sys.argv[3] == 'True': self.cancel()\n"
        "seen = Seen()\n"
        "try:\n"
        "    base = Base.resolve(sys.argv[2], Workspace(Path(sys.argv[1])), seen, download=True)\n"
        "    print(base, seen.furthest)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    return hub.run(code, str(root), name, str(cancel), home=root / "hf")


def test_download_takes_only_safe_files_and_reports_progress(hub: HubServer, workspace_root: Path) -> None:
    out = download(hub, workspace_root, "org/base")
    assert "Downloading org/base from the hub" in out
    assert "Base base" in out
    assert "'B')" in out
    assert sorted(set(hub.fetched)) == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_download_can_be_cancelled(hub: HubServer, workspace_root: Path) -> None:
    assert "Cancelled Cancelled while: Downloading org/base" in download(
        hub, workspace_root, "org/base", cancel=True
    )


def test_name_that_the_hub_lacks_is_refused(hub: HubServer, workspace_root: Path) -> None:
    out = download(hub, workspace_root, "org/wrong")
    assert "InvalidBase The base model 'org/wrong' could not be downloaded from the hub" in out
    assert "HF_TOKEN" in out


def test_base_is_shown_as_text_and_escaped_html(tmp_path: Path) -> None:
    base = Base.read(write_base(tmp_path / "base", model_type=CANARY))
    assert "Base base\n" in str(base)
    assert "2 (BF16) in 1 files" in str(base)
    assert CANARY not in base._repr_html_()
    assert "&lt;img" in base._repr_html_()
