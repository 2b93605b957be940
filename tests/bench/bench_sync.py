"""Duration of a sync: wheels with a big file, and many small files; first and unchanged."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from nbtoolkit import sync
from nbtoolkit.filestore import LocalFolder

RUNS = 3
WHEELS = 60
SMALL = 2000
BIG = 1_000_000_000
SEED = 7


def write(path: Path, size: int, block: bytes) -> None:
    """Fill a file with repeated blocks; unlike a sparse file, it takes disk space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(block[:size])


def sources(root: Path) -> dict[str, Path]:
    """Write 60 wheels of 1 to 10 MB (a few up to 40 MB) with a 1 GB file, and 2,000 files of up to 8 kB."""
    chance = random.Random(SEED)
    block = chance.randbytes(1 << 20)
    for i in range(WHEELS):
        size = chance.randint(20_000_000, 40_000_000) if i % 20 == 0 else chance.randint(1_000_000, 8_000_000)
        write(root / "wheels" / f"wheel_{i:02}-1.0-py3-none-any.whl", size, block)
    write(root / "wheels" / "big.whl", BIG, block)
    for i in range(SMALL):
        write(root / "small" / f"{i % 40:02}" / f"{i}.txt", chance.randint(1, 8000), block)
    return {"wheels and 1 GB": root / "wheels", "2,000 small files": root / "small"}


def timed(folder: Path, store: LocalFolder, *, content_addressed: bool) -> tuple[float, sync.SyncResult]:
    """Return the seconds and the result of one sync."""
    start = time.perf_counter()
    result = sync.sync(folder, store, "nbtoolkit/bench", content_addressed=content_addressed)
    return time.perf_counter() - start, result


def summary(values: list[float]) -> dict[str, float]:
    """Return median and spread."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def main() -> dict[str, object]:
    """Return seconds and bytes per case: medians of interleaved runs, each on a fresh local share."""
    first: dict[str, list[float]] = {}
    again: dict[str, list[float]] = {}
    facts: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="nbtoolkit-bench-") as temporary:
        root = Path(temporary)
        cases = {
            f"{name}, {kind}": (folder, kind == "by content")
            for name, folder in sources(root).items()
            for kind in ("by content", "compared")
        }
        for _ in range(RUNS):
            for case, (folder, content_addressed) in cases.items():
                store = LocalFolder(root / "share")
                seconds, sent = timed(folder, store, content_addressed=content_addressed)
                first.setdefault(case, []).append(seconds)
                seconds, resent = timed(folder, store, content_addressed=content_addressed)
                again.setdefault(case, []).append(seconds)
                facts[case] = {
                    "files": sent.sent_files,
                    "bytes": sent.sent_bytes,
                    "files_sent_again": resent.sent_files,
                    "bytes_sent_again": resent.sent_bytes,
                }
                shutil.rmtree(store.root)
    return {
        case: {
            **facts[case],
            "first_seconds": summary(first[case]),
            "unchanged_seconds": summary(again[case]),
        }
        for case in facts
    }


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
