"""Upload to an Azure file share: sync compared with the plain SDK, with and without added latency."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import IO, Any

from tests.bench import bench_sync

LATENCY = 0.02
"""Seconds added to every request."""
RUNS = 3


class Double:
    """The double in its process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.share_double"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.where: str = self._out.readline()

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout
        return self._process.stdout

    def prepare(self, latency: float, *, empty: bool) -> dict[str, int]:
        """Set the latency; return the number of requests since the last call."""
        assert self._process.stdin
        self._process.stdin.write(f"{latency}\n" if not empty else f"{latency} empty\n")
        self._process.stdin.flush()
        return json.loads(self._out.readline())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        if self._process.wait(60):
            raise RuntimeError("the double crashed")


def run(way: str, folder: Path, double: Double) -> dict[str, Any]:
    """Return the measurements of one run."""
    command = [sys.executable, "-m", "tests.bench.share_client", way, str(folder), double.where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    return json.loads(done.stdout)


def compare(folder: Path, double: Double, latency: float, runs: int) -> dict[str, Any]:
    """Return medians of interleaved runs on an empty share, and the requests of an unchanged sync."""
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    requests: dict[str, int] = {}
    peak, unchanged = 0, {}
    for _ in range(runs):
        for way in ("plain", "ours"):
            double.prepare(latency, empty=True)
            took = run(way, folder, double)
            seconds[way].append(took["seconds"])
            requests[way] = double.prepare(latency, empty=False)["requests"]
            if way == "ours":
                peak = max(peak, took["peak_bytes"])
    run("ours", folder, double)
    unchanged = double.prepare(0, empty=True)
    return {
        "plain_seconds": bench_sync.summary(seconds["plain"]),
        "ours_seconds": bench_sync.summary(seconds["ours"]),
        "times_faster": median(seconds["plain"]) / median(seconds["ours"]),
        "requests_plain": requests["plain"],
        "requests_ours": requests["ours"],
        "peak_MB_ours": peak / 1e6,
        "unchanged_requests": unchanged["requests"],
        "unchanged_writes": unchanged["writes"],
    }


def main(runs: int = RUNS) -> dict[str, object]:
    """Return seconds, requests and memory per case."""
    double = Double()
    try:
        with tempfile.TemporaryDirectory(prefix="nbtoolkit-bench-") as temporary:
            cases = bench_sync.sources(Path(temporary))
            return {
                f"{name}, {latency * 1000:.0f} ms added": compare(folder, double, latency, runs)
                for name, folder in cases.items()
                for latency in (LATENCY, 0.0)
            }
    finally:
        double.close()


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS), indent=2))
