"""A deploy that is killed never publishes a partial release, and the next one continues from there."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from nbtoolkit.filestore import LocalFolder, temp_files
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.releases import publisher
from nbtoolkit.serving import content_hash, share_layout
from nbtoolkit.serving.release import Release, ServedAdapter, ServedCode

MOMENTS = 20
MODULES = 120
SEED = 20251122

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")


def write_adapter(folder: Path, seed: int, size: int) -> Adapter:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"w": tensor}).encode()
    content = random.Random(seed).randbytes(size)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + content)
    return Adapter.read(folder)


def write_code(folder: Path, seed: int, modules: int = MODULES) -> Path:
    for i in range(modules):
        file = folder / f"part{i % 6}" / f"module{i}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# {seed}\n" * (i + 1))
    return folder


def deploy(root: Path, adapter: Path, code: Path, expected: int) -> tuple[int, str]:
    """Publish to the share like a deploy; return the files sent and the release's id."""
    value = Adapter.read(adapter)
    served = ServedAdapter(
        name="tone", path=share_layout.adapter_path(value.sha256), sha256=value.sha256, rank=2
    )
    release = Release(base=None, adapters=(served,), code=ServedCode(sha256=content_hash.code_sha256(code)))
    store = LocalFolder(root)
    result = publisher.stage_release(store, release, {"tone": value}, code)
    publisher.publish_release(store, release.id, expected=expected, by="killed")
    return result.sent_files, release.id


def deploy_on_signal(root: Path, adapter: Path, code: Path, go: Connection) -> None:
    go.send("ready")
    go.recv()
    start = time.monotonic()
    deploy(root, adapter, code, expected=1)
    go.send(time.monotonic() - start)


class DeployProcess:
    """A process that deploys on a signal."""

    def __init__(self, root: Path, adapter: Path, code: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["nbtoolkit.releases.publisher"])
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=deploy_on_signal, args=(root, adapter, code, other))
        self.process.start()
        other.close()
        assert self.pipe.recv() == "ready"

    def run(self) -> float:
        """Let the deploy finish; return its seconds."""
        self.pipe.send("go")
        seconds = self.pipe.recv()
        self.process.join(30)
        return seconds

    def kill_after(self, seconds: float) -> bool:
        """Kill it that long after its start; return whether it was still running."""
        self.pipe.send("go")
        time.sleep(seconds)
        finished = self.pipe.poll()
        self.process.kill()
        self.process.join(30)
        return not finished


def files_under(root: Path) -> dict[str, tuple[int, int]]:
    """Return name → inode and time of writing, which a file that is sent again does not keep."""
    return {
        path.relative_to(root).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def assert_public_release_is_whole(store: LocalFolder) -> str:
    pointer = publisher.active_pointer(store)
    assert pointer is not None
    release = publisher.read_release(store, pointer.release)
    for adapter in release.adapters:
        assert content_hash.adapter_sha256(store.root / adapter.path) == adapter.sha256
    code = store.root / share_layout.code_path(release.code.sha256) / share_layout.CODE_PACKAGE
    assert content_hash.code_sha256(code) == release.code.sha256
    return release.id


def test_a_deploy_killed_at_random_moments(tmp_path: Path) -> None:
    old, old_code = write_adapter(tmp_path / "old", 1, 1000), write_code(tmp_path / "old_code", 1, 6)
    new, new_code = write_adapter(tmp_path / "new", 2, 5 << 20), write_code(tmp_path / "new_code", 2)
    new_id = ""
    moment = random.Random(SEED)

    def fresh_share(name: str) -> LocalFolder:
        store = LocalFolder(tmp_path / name)
        deploy(store.root, old.path, old_code, expected=0)
        return store

    whole = min(DeployProcess(fresh_share(f"whole{i}").root, new.path, new_code).run() for i in range(2))
    killed_at_work = partial = 0
    for i in range(MOMENTS):
        store = fresh_share(f"share{i}")
        before = files_under(store.root)
        child = DeployProcess(store.root, new.path, new_code)
        killed_at_work += child.kill_after(moment.uniform(0.02, 0.95) * whole)

        public = assert_public_release_is_whole(store)
        pointer = publisher.active_pointer(store)
        assert pointer is not None
        left = {n: at for n, at in files_under(store.root).items() if n.startswith("nbtoolkit/")}
        finished = {n for n in left if not temp_files.is_temporary(n.rpartition("/")[2])}
        partial += len(before) < len(finished)

        sent, new_id = deploy(store.root, new.path, new_code, expected=pointer.n)

        assert pointer.n == 1 or public == new_id
        now = files_under(store.root)
        assert {n: now[n] for n in finished} == {n: left[n] for n in finished}  # none was sent again
        assert set(now) - finished == {n for n in now if n not in left}
        assert sent == len(now) - len(finished) - 1  # and the pointer
        assert not any(temp_files.is_temporary(n.rpartition("/")[2]) for n in now)
        assert assert_public_release_is_whole(store) == new_id
    assert killed_at_work >= MOMENTS // 2
    assert partial >= 3


LINKS = 2 + MODULES + 1 + 1
"""Files of a first deploy: adapter, code, release, pointer; each gets its name by a hard link."""


@pytest.mark.parametrize(
    ("step", "after"),
    [("mkdir", 1), ("mkdir", 7), *(("hardlink_to", n) for n in (1, 50, LINKS - 1, LINKS))],
)
def test_a_deploy_killed_between_two_steps(tmp_path: Path, step: str, after: int) -> None:
    """Right after its link a finished file has two names, the pointer too."""
    adapter, code = write_adapter(tmp_path / "new", 2, 100), write_code(tmp_path / "code", 2)
    store = LocalFolder(tmp_path / "share")
    process = multiprocessing.get_context("forkserver").Process(
        target=_die_after, args=(store.root, adapter.path, code, step, after)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    pointer = publisher.active_pointer(store)
    assert (pointer is not None) == ((step, after) == ("hardlink_to", LINKS))

    finished = {n for n in files_under(store.root) if not temp_files.is_temporary(n.rpartition("/")[2])}
    assert len(finished) >= (after if step == "hardlink_to" else 0)

    sent, _ = deploy(store.root, adapter.path, code, expected=pointer.n if pointer else 0)
    assert sent == LINKS - 1 - len(finished) + (pointer is not None)
    assert_public_release_is_whole(store)
    assert not any(temp_files.is_temporary(n.rpartition("/")[2]) for n in files_under(store.root))


def _die_after(root: Path, adapter: Path, code: Path, step: str, after: int) -> None:
    """Deploy, and be killed right after the n-th call of one of Path's methods."""
    original = getattr(Path, step)
    calls = 0

    def counted(self: Path, *args: object, **kwargs: object) -> None:
        nonlocal calls
        original(self, *args, **kwargs)
        calls += 1
        if calls == after:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(Path, step, counted)
    deploy(root, adapter, code, expected=0)
