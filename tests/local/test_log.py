"""The log: rotated, masked, and followed without losing a line."""

from __future__ import annotations

import logging
import logging.handlers
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nbtoolkit import LocalTarget, Workspace
from nbtoolkit.local import log
from nbtoolkit.progress import Progress
from tests.support import local_stub as double
from tests.support.wait import wait_until


@pytest.fixture
def target(tmp_path: Path) -> Iterator[LocalTarget]:
    target = LocalTarget(Workspace(double.workspace_of(tmp_path)), keep=False, log_bytes=20_000)
    target.provision()
    yield target
    target.destroy()


def test_log_is_rotated_and_stays_small(target: LocalTarget) -> None:
    target.activate(double.release(target), restart=False)
    httpx.get(target.endpoint().url + "/print/2000", timeout=30)
    wait_until(lambda: any("0001999" in line for line in target.logs(tail=5)))
    files = sorted(target.root.glob("server.log*"))
    assert [file.name for file in files] == ["server.log", *(f"server.log.{n}" for n in range(1, 4))]
    assert sum(file.stat().st_size for file in files) < 90_000
    tail = list(target.logs(tail=300))
    assert [line.split()[1] for line in tail[-300:]] == [f"{n:07d}" for n in range(1700, 2000)]


def test_following_a_server_ends_when_it_stops(target: LocalTarget) -> None:
    target.activate(double.release(target), restart=False)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(target.logs(follow=True)))
    reader.start()
    httpx.get(target.endpoint().url + "/print/50", timeout=30)
    target.stop()
    reader.join(10)
    assert not reader.is_alive()
    assert sum(line.startswith("line ") for line in lines) == 50
    assert lines[-1].endswith("it was stopped")


def test_following_loses_no_line_to_rotations(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=3000, backupCount=log.OLD_FILES)
    done = threading.Event()

    def write() -> None:
        for number in range(1500):
            handler.emit(logging.makeLogRecord({"msg": f"{number} {'x' * 50}"}))
            if number % 50 == 0:
                time.sleep(0.01)  # at most three rotations per poll: a reader cannot read a deleted file
        done.set()

    handler.emit(logging.makeLogRecord({"msg": "first"}))
    followed = log.follow(path, None, lambda: not done.is_set(), _Quick())
    writer = threading.Thread(target=write)
    assert next(followed) == "first"
    writer.start()
    numbers = [int(line.split()[0]) for line in followed]
    writer.join()
    handler.close()
    assert numbers == list(range(1500))


class _Quick(Progress):
    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, 0.002))


def test_following_ends_quietly_on_cancel(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("one\ntwo\nhalf a li")
    progress = Progress()
    followed = log.follow(path, 1, lambda: True, progress)
    assert next(followed) == "two"
    progress.cancel()
    assert list(followed) == []


def test_tail_of_no_log_is_empty(tmp_path: Path) -> None:
    assert log.tail(tmp_path / "server.log", 10) == []
    assert list(log.follow(tmp_path / "server.log", 10, lambda: False, Progress())) == []


def test_undecodable_bytes_do_not_end_the_log(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(b"caf\xe9\nna\xc3\xafve\n")
    assert log.tail(path, None) == ["caf�", "naïve"]
