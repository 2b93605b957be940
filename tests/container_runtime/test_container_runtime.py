"""Container images, their locks, and the download of wheels from an index of tiny wheels."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import re
import sys
import threading
import time
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from nbtoolkit import Workspace
from nbtoolkit.container_runtime.images import RUNTIMES, TRANSFORMERS, VLLM, ContainerRuntime, LockedWheel
from nbtoolkit.container_runtime.lock import BROUGHT, lock_text, resolve
from nbtoolkit.container_runtime.wheel_download import REQUIREMENTS, SharedWheels, resolve_wheels
from nbtoolkit.errors import BrokenFile, Cancelled, InvalidSettings, WheelsUnavailable
from nbtoolkit.progress import Progress
from tests.support.recording_progress import RecordingProgress
from tests.support.tiny_wheels import make_wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only index that pip may use."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def locked(wheel: Path) -> LockedWheel:
    name, version = wheel.name.split("-")[:2]
    content = wheel.read_bytes()
    return LockedWheel(name, version, hashlib.sha256(content).hexdigest(), wheel.name, len(content))


def runtime_with(tmp_path: Path, *wheels: Path) -> ContainerRuntime:
    runtime = dataclasses.replace(TRANSFORMERS, lock=tmp_path / "test.lock")
    runtime.lock.write_text(lock_text(runtime, [locked(one) for one in wheels]))
    return runtime


def test_wheels_of_the_image_are_downloaded_on_any_platform(tmp_path: Path, index: Path) -> None:
    pure = make_wheel(index, "alpha", "1.0")
    native = make_wheel(index, "beta", "2.1", tag="cp312-cp312-manylinux_2_28_x86_64")
    make_wheel(index, "beta", "2.1", tag=f"cp{sys.version_info[0]}{sys.version_info[1]}-none-linux_x86_64")
    make_wheel(index, "beta", "2.1", tag="cp312-cp312-win_amd64")
    runtime, progress = runtime_with(tmp_path, pure, native), RecordingProgress()
    shared = SharedWheels(runtime, tmp_path / "cache")
    files = shared.files(progress)
    assert sorted(files) == ["alpha-1.0-py3-none-any.whl", native.name, REQUIREMENTS]
    assert files[native.name].read_bytes() == native.read_bytes()
    lock = files[REQUIREMENTS].read_bytes()
    assert shared.sha256 == runtime.wheels_sha256 == hashlib.sha256(lock).hexdigest()
    size = pure.stat().st_size + native.stat().st_size
    assert progress.advances[-1] == (size, size, "B")
    assert progress.lines == ["Downloading 2 packages for the container"]


def test_present_wheels_are_not_downloaded_again(tmp_path: Path, index: Path) -> None:
    wheels = [make_wheel(index, f"package{i}", "1.0") for i in range(3)]
    runtime, cache = runtime_with(tmp_path, *wheels), tmp_path / "cache"
    fetched = SharedWheels(runtime, cache).files(Progress())
    (index / "package0-1.0-py3-none-any.whl").unlink()  # pip could not download it any more
    fetched["package1-1.0-py3-none-any.whl"].write_bytes(b"torn")
    fetched["package2-1.0-py3-none-any.whl"].unlink()
    progress = RecordingProgress()
    again = SharedWheels(runtime, cache).files(progress)
    assert progress.lines == ["Downloading 2 packages for the container"]
    assert all(again[wheel.name].stat().st_size for wheel in wheels)
    for wheel in wheels[1:]:
        assert again[wheel.name].read_bytes() == wheel.read_bytes()
    for wheel in index.iterdir():
        wheel.unlink()
    progress = RecordingProgress()
    assert SharedWheels(runtime, cache).files(progress) == again
    assert progress.lines == []


def test_a_failed_download_keeps_complete_wheels(tmp_path: Path, index: Path) -> None:
    wheels = [make_wheel(index, f"package{i:02}", "1.0") for i in range(10)]
    runtime = runtime_with(tmp_path, *wheels)
    wheels[9].rename(tmp_path / "away")
    with pytest.raises(WheelsUnavailable, match=r"package09==1\.0"):
        SharedWheels(runtime, tmp_path / "cache").files(Progress())
    for wheel in wheels[:8]:
        wheel.unlink()
    (tmp_path / "away").rename(wheels[9])
    progress = RecordingProgress()
    SharedWheels(runtime, tmp_path / "cache").files(progress)
    assert progress.lines == ["Downloading 2 packages for the container"]
    assert not [path for path in (tmp_path / "cache" / "wheels").iterdir() if path.name.startswith(".")]


def test_a_wheel_with_another_hash_than_in_the_lock_is_refused(tmp_path: Path, index: Path) -> None:
    runtime = runtime_with(tmp_path, make_wheel(index, "alpha", "1.0"))
    make_wheel(index, "alpha", "1.0", code="evil = True")
    with pytest.raises(WheelsUnavailable, match=r"other hashes than the lock.*alpha==1\.0") as failure:
        SharedWheels(runtime, tmp_path / "cache").files(Progress())
    assert "Next: use an index that mirrors PyPI unchanged" in str(failure.value)
    assert not list((tmp_path / "cache" / "wheels").glob("*.whl"))


def test_a_wheel_for_another_platform_only_is_reported_as_missing(tmp_path: Path, index: Path) -> None:
    wheel = make_wheel(index, "alpha", "1.0", tag="cp312-cp312-manylinux_2_28_x86_64")
    runtime = dataclasses.replace(runtime_with(tmp_path, wheel), python="3.11")
    with pytest.raises(WheelsUnavailable, match=r"alpha==1\.0") as failure:
        SharedWheels(runtime, tmp_path / "cache").files(Progress())
    assert "Python 3.11 on Linux" in failure.value.next_step


def test_an_unreachable_index_is_named(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = runtime_with(tmp_path, make_wheel(tmp_path, "alpha", "1.0"))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:canary-token@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(WheelsUnavailable, match="the package index does not answer") as failure:
        SharedWheels(runtime, tmp_path / "cache").files(Progress())
    assert "pip config list" in failure.value.next_step
    assert "canary-token" not in f"{failure.value!s}{vars(failure.value)}"


def test_a_cancel_ends_pip(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = runtime_with(tmp_path, make_wheel(tmp_path, "alpha", "1.0"))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # pip retries for a while
    monkeypatch.setenv("PIP_RETRIES", "9")
    progress = Progress()
    threading.Timer(1.0, progress.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled, match="Downloading 1 packages"):
        SharedWheels(runtime, tmp_path / "cache").files(progress)
    assert time.monotonic() - began < 2.5


def test_an_invalid_lock_names_its_line(tmp_path: Path) -> None:
    runtime = runtime_with(tmp_path)
    runtime.lock.write_text("# fine\nalpha>=1.0\n")
    with pytest.raises(BrokenFile, match=r"test\.lock, line 2: 'alpha>=1\.0'"):
        _ = runtime.wheels


def test_line_endings_do_not_change_the_hash_of_a_lock(tmp_path: Path, index: Path) -> None:
    unix = runtime_with(tmp_path, make_wheel(index, "alpha", "1.0"))
    windows = dataclasses.replace(unix, lock=tmp_path / "windows.lock")
    windows.lock.write_bytes(unix.lock.read_bytes().replace(b"\n", b"\r\n"))
    assert windows.wheels_sha256 == unix.wheels_sha256
    assert windows.wheels == unix.wheels


def test_lock_is_resolved_for_the_image_without_its_installed_packages(tmp_path: Path, index: Path) -> None:
    make_wheel(index, "alpha", "1.0", requires=["torch>=2", "beta"])
    make_wheel(index, "alpha", "2.0", requires=["torch>=9"])
    make_wheel(index, "beta", "1.0", tag="cp312-cp312-manylinux_2_34_x86_64")
    right = make_wheel(index, "beta", "0.9", tag="cp312-cp312-manylinux_2_17_x86_64")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("torch==2.13.0\n")
    found = resolve(TRANSFORMERS, ["alpha"], constraints)
    assert [(one.name, one.version) for one in found] == [("alpha", "1.0"), ("beta", "0.9")]
    assert found[1].sha256 == hashlib.sha256(right.read_bytes()).hexdigest()
    with pytest.raises(InvalidSettings, match="gamma"):
        resolve(TRANSFORMERS, ["gamma"], constraints)


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_locks_agree_with_the_versions_that_are_tested(runtime: ContainerRuntime, repo: Path) -> None:
    lines = (repo / "constraints.txt").read_text().splitlines()
    pins = {plain(name): version for name, _, version in (line.partition("==") for line in lines) if version}
    differ = [
        f"{one.name} {one.version}"
        for one in runtime.wheels
        if pins.get(one.name, one.version) != one.version
    ]
    assert differ == []


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_locked_wheels_fit_the_image_and_are_not_installed_in_it(runtime: ContainerRuntime) -> None:
    for one in runtime.wheels:
        assert plain(one.file.split("-")[0]) == one.name
        assert not one.name.startswith(("torch", "nvidia", "triton", "cuda")), one
        python, _, platforms = one.file.removesuffix(".whl").split("-")[-3:]
        assert {"py3", "cp312", "py2"} & set(python.split(".")) or "abi3" in one.file, one
        assert platforms == "any" or set(platforms.split(".")) & set(runtime.platforms), one
    assert runtime.wheels_sha256 == hashlib.sha256(runtime.lock.read_bytes()).hexdigest()


def test_the_lock_has_all_imports_of_the_server(repo: Path) -> None:
    serving = repo / "nbtoolkit" / "serving"
    imported = {
        name.split(".")[0]
        for path in serving.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    } - sys.stdlib_module_names
    owners = packages_distributions()
    needed = {plain(owners[name][0]) for name in imported}
    assert needed <= {one.name for one in TRANSFORMERS.wheels} | set(BROUGHT)
    assert "bitsandbytes" in {one.name for one in TRANSFORMERS.wheels}  # transformers imports it for nf4


def test_the_template_starts_the_same_images(repo: Path) -> None:
    template = (repo / "infra" / "provision" / "inference.bicep").read_text()
    assert f"'{TRANSFORMERS.image}'" in template
    assert f"'{VLLM.image}'" in template


def test_wheels_are_those_of_the_transformers_engine_even_with_vllm_in_the_parameter_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "inference.parameters.json").write_text(
        '{"parameters":{"engine":{"value":"vllm"}}}'
    )
    found = resolve_wheels(None, Workspace(tmp_path))
    assert isinstance(found, SharedWheels)
    assert found.runtime == TRANSFORMERS
    assert resolve_wheels("none", Workspace(tmp_path)) is None


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
