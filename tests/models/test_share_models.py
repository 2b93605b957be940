"""What lies only on the share: listed, fetched once and gone on with, described without its weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbtoolkit import Adapter, Base, Workspace
from nbtoolkit.errors import Cancelled, NotInStore, StoreError
from nbtoolkit.filestore import LocalFolder
from nbtoolkit.models import share_models as in_place
from nbtoolkit.progress import Progress
from nbtoolkit.target_factory import share_containing
from tests.support.stub_deploy import adapter, base


class Share(LocalFolder):
    """Count what is read, and fail where a test wants it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_bytes: dict[str, int] = {}
        self.left: int | None = None

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        if self.left is not None:
            if self.left == 0:
                raise StoreError("the line broke", next_step="again")
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


def test_only_a_path_of_the_mount_that_is_not_here_is_on_the_share() -> None:
    assert in_place.share_path("/mount/models/phi/adapter/") == "models/phi/adapter"
    assert in_place.share_path(Path("/mount/model-cache/x")) == "model-cache/x"
    assert in_place.share_path("adapters/x") is None
    assert in_place.share_path("/mountain/x") is None


def test_what_can_be_chosen_is_listed_as_a_setting_names_it(share: Share) -> None:
    assert in_place.list_adapters(share) == ["/mount/models/phi/adapter"]
    assert in_place.list_bases(share) == ["/mount/model-cache/tiny"]
    assert in_place.list_adapters(LocalFolder(share.root / "nothing")) == []


def test_an_adapter_is_fetched_once_and_is_the_same(share: Share, workspace: Workspace) -> None:
    there = Adapter.read(share.root / "models" / "phi" / "adapter")
    folder = in_place.download_adapter(share, "models/phi/adapter", workspace, Progress())
    assert Adapter.read(folder).sha256 == there.sha256
    share.read_bytes.clear()
    assert in_place.download_adapter(share, "models/phi/adapter", workspace, Progress()) == folder
    assert share.read_bytes == {}

    adapter(share.root / "models" / "phi" / "adapter", "other")
    (share.root / "models" / "phi" / "adapter" / "optimizer.pt").write_bytes(bytes(100))
    changed = Adapter.read(in_place.download_adapter(share, "models/phi/adapter", workspace, Progress()))
    assert changed.sha256 == Adapter.read(share.root / "models" / "phi" / "adapter").sha256
    assert not (folder / "optimizer.pt").exists()


def test_an_interrupted_fetch_goes_on_where_it_was(
    share: Share, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_place, "_CHUNK", 1000)
    path = "models/phi/adapter"
    share.left = 3
    with pytest.raises(StoreError, match="the line broke"):
        in_place.download_adapter(share, path, workspace, Progress())
    share.left = None
    folder = in_place.download_adapter(share, path, workspace, Progress())
    assert Adapter.read(folder).sha256 == Adapter.read(share.root / path).sha256
    sizes = {f"{path}/{file.name}": file.stat().st_size for file in (share.root / path).iterdir()}
    assert share.read_bytes == sizes
    assert not list(folder.glob("*.part"))


def test_a_cancel_ends_a_fetch(share: Share, workspace: Workspace) -> None:
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        in_place.download_adapter(share, "models/phi/adapter", workspace, progress)


def test_a_wrong_name_is_answered_with_those_that_there_are(share: Share, workspace: Workspace) -> None:
    with pytest.raises(
        NotInStore, match=r"holds no adapter_config.json. There are: /mount/models/phi/adapter"
    ):
        in_place.download_adapter(share, "models/phi", workspace, Progress())
    with pytest.raises(NotInStore, match="There are: /mount/model-cache/tiny"):
        in_place.describe_base(share, "model-cache/other", workspace, Progress())


def test_a_base_on_the_share_has_the_identity_of_the_whole_folder(share: Share, workspace: Workspace) -> None:
    there = Base.read(share.root / "model-cache" / "tiny")
    described = in_place.describe_base(share, "model-cache/tiny", workspace, Progress())
    assert (described.name, described.sha256) == (there.name, there.sha256)
    assert dict(described.tensors) == dict(there.tensors)
    assert described.weights == ()
    whole = in_place.download_base(share, "model-cache/tiny", workspace, Progress())
    assert (whole.name, whole.sha256) == (there.name, there.sha256)
    assert whole.weights


def test_a_test_finds_the_share_of_this_machine_first(workspace: Workspace) -> None:
    local = workspace.state / "local" / "share" / "models" / "x"
    local.mkdir(parents=True)
    assert isinstance(share_containing("models/x", workspace), LocalFolder)
