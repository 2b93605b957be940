"""An adapter on the hub is named like a base, downloaded at its commit, and only its own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtoolkit import DeploySettings, SmokeSettings, Workspace, smoke_test
from nbtoolkit.deployment.resolve_release import resolve_release
from nbtoolkit.errors import InvalidAdapter
from nbtoolkit.models.adapter_resolver import hub_adapter, resolve_adapter_folder
from nbtoolkit.models.folder_names import hub_source
from nbtoolkit.models.hub import HubName
from nbtoolkit.progress import Progress
from nbtoolkit.serving.release import Release, ServedAdapter
from nbtoolkit.widgets import DeployForm, SmokeForm
from tests.support.hub_server import REVISION, TOKEN, HubServer, serve_hub
from tests.support.model_folders import write_base
from tests.support.stub_deploy import LocalProject, adapter, report

RESOLVE = """
import sys
from pathlib import Path
from nbtoolkit.models.adapter_resolver import resolve_adapter_folder
from nbtoolkit.models.folder_names import hub_source
from nbtoolkit.progress import PrintProgress
from nbtoolkit.workspace import Workspace
for name in sys.argv[2:]:
    try:
        folder = resolve_adapter_folder(name, Workspace(Path(sys.argv[1])), PrintProgress())
        print(name, "IS", hub_source(folder), sorted(file.name for file in folder.iterdir()))
    except Exception as error:
        print(name, "RAISES", type(error).__name__, getattr(error, "check", ""), error)
"""


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("org/tone", HubName("org/tone")),
        ("org/tone@v1.0", HubName("org/tone", "v1.0")),
        ("org/tone@refs/pr/3", HubName("org/tone", "refs/pr/3")),
        ("hf://org/tone@main/checkpoint-100", HubName("org/tone", "main", "checkpoint-100", is_url=True)),
        ("https://huggingface.co/org/tone", HubName("org/tone", is_url=True)),
        (" https://huggingface.co/org/tone/?library=peft ", HubName("org/tone", is_url=True)),
        ("https://huggingface.co/org/tone/tree/refs%2Fpr%2F3", HubName("org/tone", "refs/pr/3", is_url=True)),
        ("hf.co/org/tone/tree/main/a/b", HubName("org/tone", "main", "a/b", is_url=True)),
        (
            "https://huggingface.co/org/tone/blob/main/a/adapter_model.safetensors",
            HubName("org/tone", "main", "a", is_url=True),
        ),
        ("https://huggingface.co/org/tone.git", HubName("org/tone", is_url=True)),
        ("https://huggingface.co/org/tone/commit/0123abc", HubName("org/tone", "0123abc", is_url=True)),
        (
            "https://huggingface.co/org/tone/raw/main/a/adapter_config.json",
            HubName("org/tone", "main", "a", is_url=True),
        ),
        ("https://huggingface.co/datasets/org/tone", None),
        ("https://example.com/org/tone", None),
        ("adapters/one/tone", None),
        ("../org/tone", None),
        ("/org/tone", None),
        ("tone", None),
        ("", None),
    ],
)
def test_hub_names_and_urls_are_parsed(text: str, parsed: HubName | None) -> None:
    assert HubName.parse(text) == parsed


def test_settings_and_public_names_accept_hub_names(tmp_path: Path) -> None:
    url = "https://huggingface.co/org/calm/tree/main/checkpoint-100"
    settings = DeploySettings(adapters=["org/tone@v1", url, tmp_path / "mine"], base="b")
    assert settings.adapters == {"tone": "org/tone@v1", "calm": url, "mine": str(tmp_path / "mine")}
    assert [one.adapter for one in settings.smoke_settings()] == list(settings.adapters.values())
    assert SmokeSettings(adapter=tmp_path / "mine", base="b").adapter == str(tmp_path / "mine")


def test_a_folder_of_that_name_wins_and_a_misspelt_path_is_not_sent_to_the_hub(workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    folder = adapter(workspace_root / "org" / "tone", "red")
    assert hub_adapter("org/tone", workspace) is None
    assert resolve_adapter_folder("org/tone", workspace, Progress()) == folder
    assert hub_adapter("org/tonne", workspace) is None
    assert hub_adapter("other/tone@main", workspace) == HubName("other/tone", "main")
    assert hub_adapter("hf://org/tone", workspace) is not None


def test_the_source_is_read_from_the_snapshots_folder(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--tone" / "snapshots" / REVISION
    assert hub_source(snapshot) == f"org/tone@{REVISION}"
    assert hub_source(snapshot / "checkpoint-100") == f"org/tone@{REVISION}/checkpoint-100"
    assert hub_source(tmp_path / "tone") is None


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    tone = adapter(tmp_path / "tone", "red")
    adapter(tone / "checkpoint-100", "blue")
    for name in ("optimizer.pt", "training_args.bin", "adapter_model.bin", "modeling_own.py"):
        (tone / name).write_bytes(b"never fetched")
    pickled = adapter(tmp_path / "pickled", "red")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    nested = tmp_path / "nested"
    adapter(nested / "checkpoint-5", "red")
    repositories = {
        "org/tone": tone,
        "org/pickled": pickled,
        "org/nested": nested,
        "org/whole": write_base(tmp_path / "whole"),
        "org/gated": adapter(tmp_path / "gated", "red"),
    }
    with serve_hub(repositories, gated=frozenset({"org/gated"})) as server:
        yield server


def outcomes(output: str) -> dict[str, str]:
    """Return name → outcome of the lines that the process printed."""
    lines = [line for line in output.splitlines() if " IS " in line or " RAISES " in line]
    assert lines, output
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}


def test_an_adapter_of_the_hub_is_pinned_and_only_its_files_are_downloaded(
    hub: HubServer, workspace_root: Path
) -> None:
    names = (
        "org/tone@main",
        f"{hub.url}/org/tone/tree/main/checkpoint-100",
        "org/tone@v9",
        "org/pickled",
        "org/nested",
        "org/whole",
        "org/gated",
        "org/missing",
    )
    home = workspace_root / "hf"
    output = hub.run(RESOLVE, str(workspace_root), *names, home=home)
    found = outcomes(output)
    files = "['adapter_config.json', 'adapter_model.safetensors'"
    assert found["org/tone@main"].startswith(f"IS org/tone@{REVISION} {files}")
    assert found[names[1]].startswith(f"IS org/tone@{REVISION}/checkpoint-100 {files}")
    assert set(hub.fetched) <= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "checkpoint-100/adapter_config.json",
        "checkpoint-100/adapter_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert "it has no revision 'v9'" in found["org/tone@v9"]
    assert "RAISES InvalidAdapter A2" in found["org/pickled"]
    assert "its weights are a pickle (adapter_model.bin)" in found["org/pickled"]
    assert "its adapters are in folders: checkpoint-5" in found["org/nested"]
    assert "hf://org/nested@" in output
    assert "it is a whole model, not an adapter" in found["org/whole"]
    assert "it is gated, and no token" in found["org/gated"]
    assert "set HF_TOKEN to a token of that account" in output
    assert "could not be downloaded from the hub" in found["org/missing"]

    with_token = hub.run(RESOLVE, str(workspace_root), "org/gated", home=home, HF_TOKEN=TOKEN)
    assert outcomes(with_token)["org/gated"].startswith(f"IS org/gated@{REVISION}")
    assert TOKEN not in with_token

    before = list(hub.fetched)
    pinned = f"org/tone@{REVISION}"
    offline = hub.run(RESOLVE, str(workspace_root), pinned, "org/other", home=home, HF_HUB_OFFLINE="1")
    assert outcomes(offline)[pinned].startswith(f"IS org/tone@{REVISION}")
    assert (
        "HF_HUB_OFFLINE is set, and it is not completely in the local cache" in outcomes(offline)["org/other"]
    )
    assert hub.fetched == before


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The pinned name of an adapter in the local hub cache."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    adapter(tmp_path / "hub" / "models--org--tone" / "snapshots" / REVISION, "red")
    return f"org/tone@{REVISION}"


def test_offline_an_adapter_that_is_not_cached_is_refused(cached: str, workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    assert resolve_adapter_folder(cached, workspace, Progress()).name == REVISION
    with pytest.raises(InvalidAdapter, match="HF_HUB_OFFLINE is set") as caught:
        resolve_adapter_folder("org/other", workspace, Progress())
    assert "unset HF_HUB_OFFLINE" in caught.value.next_step


def test_report_and_release_record_the_commit(cached: str, tmp_path: Path) -> None:
    project = LocalProject(tmp_path / "workspace")
    base = str(project.base)
    tested = smoke_test(
        SmokeSettings(adapter=cached, base=base, levels=["static"]), workspace=project.workspace
    )
    assert (tested.adapter, tested.adapter_source) == ("tone", cached)
    assert cached in str(tested)
    report(
        project.workspace, resolve_adapter_folder(cached, project.workspace, Progress()), project.base, "red"
    )
    settings = DeploySettings(adapters=cached, base=base)
    release = resolve_release(settings, project.target, Progress()).release
    assert [(one.name, one.source) for one in release.adapters] == [("tone", cached)]
    assert Release.model_validate_json(release.model_dump_json()).id == release.id
    form = DeployForm(settings, workspace=project.workspace)
    assert form.blockers() == []
    form.set(adapters={"tone": "org/other"})
    assert form.blockers() == []
    assert SmokeForm(SmokeSettings(adapter=cached, base=base), workspace=project.workspace).blockers() == []


def test_a_release_without_a_hub_adapter_keeps_its_id() -> None:
    served = ServedAdapter(name="tone", path="p", sha256="a" * 64, rank=4)
    assert served.model_dump(mode="json") == {"name": "tone", "path": "p", "sha256": "a" * 64, "rank": 4}
