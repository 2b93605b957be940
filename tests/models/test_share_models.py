"""Models on the share are listed, downloaded once, resumed, and described without their weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbtoolkit import Adapter, Base, Workspace
from nbtoolkit.errors import Cancelled, NotInStore, StoreError
from nbtoolkit.filestore import LocalFolder
from nbtoolkit.models.share_models import (
    describe_base,
    download_adapter,
    download_base,
    list_adapters,
    list_bases,
    share_path,
)
from nbtoolkit.progress import Progress
from nbtoolkit.target_factory import share_containing
from tests.support.stub_deploy import adapter, base


class Share(LocalFolder):
    """Count the bytes read, and fail after ``left`` reads if it is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_bytes: dict[str, int] = {}
        self.left: int | None = None

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        if self.left is not None:
            if self.left == 0:
                raise StoreError("connection lost", next_step="again")
            self.left -= 1
        content = super().read(path, offset, length)
        self.read_bytes[path] = self.read_bytes.get(path, 0) + len(content)
        return content


@pytest.fixture
def share(tmp_path: Path) -> Share:
    adapter(tmp_path / "share" / "models" / "phi" / "adapter", "calm")
    base(tmp_path / "share" / "model-cache" / "tiny")
    return Share(tmp_path / "share")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "project" / "infra").mkdir(parents=True)
    return Workspace(tmp_path / "project")


def test_share_path_is_a_path_of_the_mount_that_this_machine_lacks() -> None:
    assert share_path("/mount/models/phi/adapter/") == "models/phi/adapter"
    assert share_path(Path("/mount/model-cache/x")) == "model-cache/x"
    assert share_path("adapters/x") is None
    assert share_path("/mountain/x") is None


def test_models_are_listed_as_settings_name_them(share: Share) -> None:
    assert list_adapters(share) == ["/mount/models/phi/adapter"]
    assert list_bases(share) == ["/mount/model-cache/tiny"]
    assert list_adapters(LocalFolder(share.root / "nothing")) == []


def test_adapter_is_downloaded_once(share: Share, workspace: Workspace) -> None:
    there = Adapter.read(share.root / "models" / "phi" / "adapter")
    folder = download_adapter(share, "models/phi/adapter", workspace, Progress())
    assert Adapter.read(folder).sha256 == there.sha256
    share.read_bytes.clear()
    assert download_adapter(share, "models/phi/adapter", workspace, Progress()) == folder
    assert share.read_bytes == {}

    adapter(share.root / "models" / "phi" / "adapter", "other")
    (share.root / "models" / "phi" / "adapter" / "optimizer.pt").write_bytes(bytes(100))
    changed = Adapter.read(download_adapter(share, "models/phi/adapter", workspace, Progress()))
    assert changed.sha256 == Adapter.read(share.root / "models" / "phi" / "adapter").sha256
    assert not (folder / "optimizer.pt").exists()


def test_named_templates_are_downloaded_with_adapter_and_base(share: Share, workspace: Workspace) -> None:
    for path in ("models/phi/adapter", "model-cache/tiny"):
        templates = share.root / path / "additional_chat_templates"
        templates.mkdir()
        (templates / "rag.jinja").write_text("with documents")
    there = Adapter.read(share.root / "models/phi/adapter"), Base.read(share.root / "model-cache/tiny")
    here = Adapter.read(download_adapter(share, "models/phi/adapter", workspace, Progress()))
    assert here.sha256 == there[0].sha256
    assert download_base(share, "model-cache/tiny", workspace, Progress()).sha256 == there[1].sha256
    (share.root / "models/phi/adapter/additional_chat_templates/rag.jinja").unlink()
    assert len(Adapter.read(download_adapter(share, "models/phi/adapter", workspace, Progress())).files) == 2


def test_interrupted_download_resumes(share: Share, workspace: Workspace) -> None:
    path = "models/phi/adapter"
    share.left = 3
    with pytest.raises(StoreError, match="connection lost"):
        download_adapter(share, path, workspace, Progress(), chunk_size=1000)
    share.left = None
    folder = download_adapter(share, path, workspace, Progress(), chunk_size=1000)
    assert Adapter.read(folder).sha256 == Adapter.read(share.root / path).sha256
    sizes = {f"{path}/{file.name}": file.stat().st_size for file in (share.root / path).iterdir()}
    assert share.read_bytes == sizes
    assert not list(folder.glob("*.part"))


def test_cancel_ends_a_download(share: Share, workspace: Workspace) -> None:
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        download_adapter(share, "models/phi/adapter", workspace, progress)


def test_wrong_name_is_refused_with_the_existing_names(share: Share, workspace: Workspace) -> None:
    with pytest.raises(
        NotInStore, match=r"has no adapter_config.json. The share has: /mount/models/phi/adapter"
    ):
        download_adapter(share, "models/phi", workspace, Progress())
    with pytest.raises(NotInStore, match="The share has: /mount/model-cache/tiny"):
        describe_base(share, "model-cache/other", workspace, Progress())


def test_described_base_has_the_identity_of_the_whole_folder(share: Share, workspace: Workspace) -> None:
    there = Base.read(share.root / "model-cache" / "tiny")
    described = describe_base(share, "model-cache/tiny", workspace, Progress())
    assert (described.name, described.sha256) == (there.name, there.sha256)
    assert dict(described.tensors) == dict(there.tensors)
    assert described.weights == ()
    whole = download_base(share, "model-cache/tiny", workspace, Progress())
    assert (whole.name, whole.sha256) == (there.name, there.sha256)
    assert whole.weights


def test_local_share_precedes_the_one_on_azure(workspace: Workspace) -> None:
    local = workspace.state / "local" / "share" / "models" / "x"
    local.mkdir(parents=True)
    assert isinstance(share_containing("models/x", workspace), LocalFolder)
