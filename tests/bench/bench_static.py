"""Time and memory of the static level: a 50 MB adapter on a 15 GB base, and a 1 GB adapter against sha256."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.model_folders import Shapes, sized_base, write_adapter

RUNS = 5
MEGABYTE = 1_000_000
STATIC = """
import hashlib, json, sys, time
start = time.perf_counter()
from pathlib import Path
from nbtoolkit import SmokeSettings, Workspace, smoke_test
adapter, base, root = sys.argv[1:]
settings = SmokeSettings(adapter=adapter, base=base, levels=("static",), reuse=False)
report = smoke_test(settings, workspace=Workspace(Path(root)))
seconds, cpu_seconds = time.perf_counter() - start, time.process_time()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
start = time.perf_counter()
digest = hashlib.sha256()
with open(adapter + "/adapter_model.safetensors", "rb", buffering=0) as file:
    while block := file.read(1 << 20):
        digest.update(block)
print(json.dumps({
    "seconds": seconds,
    "cpu_seconds": cpu_seconds,
    "sha256_seconds": time.perf_counter() - start,
    "peak_mb": int(status["VmHWM"].split()[0]) / 1000,
    "torch": "torch" in sys.modules,
    "failed": [one.id for one in report.failed],
    "checks": {one.id: one.seconds for one in report.checks},
}))
"""


def adapter_of(folder: Path, size: int, dtype: str) -> Path:
    """Write an adapter of rank 16 on ``up_proj`` of as many layers as give that size."""
    width = 4 if dtype == "F32" else 2
    rank = max(16, size // (32 * 13 * 4096 * width))
    shapes: Shapes = {}
    for layer in range(32):
        module = f"base_model.model.model.layers.{layer}.mlp.up_proj"
        shapes[f"{module}.lora_A.weight"] = (dtype, [rank, 4096])
        shapes[f"{module}.lora_B.weight"] = (dtype, [12 * 4096, rank])
    config = {"target_modules": ["up_proj"], "task_type": "CAUSAL_LM", "peft_type": "LORA", "r": rank}
    write_adapter(folder, shapes, **config)
    weights = folder / "adapter_model.safetensors"
    header = int.from_bytes(weights.read_bytes()[:8], "little") + 8
    left = weights.stat().st_size - header
    block = bytes(range(1, 62)) * (1 << 14)  # finite in every type
    with weights.open("r+b") as file:
        file.seek(header)
        while left > 0:
            left -= file.write(block[:left])
    return folder


def measure(adapter: Path, base: Path, root: Path) -> dict[str, Any]:
    """Return medians of runs in fresh processes; the first warms the page cache and is not counted."""
    command = [sys.executable, "-c", STATIC, str(adapter), str(base), str(root)]
    done = [subprocess.run(command, capture_output=True, check=True) for _ in range(RUNS + 1)]
    runs = [json.loads(one.stdout) for one in done][1:]
    assert not any(run["torch"] or run["failed"] for run in runs), runs
    seconds = [run["seconds"] for run in runs]
    return {
        "adapter_mb": round((adapter / "adapter_model.safetensors").stat().st_size / MEGABYTE),
        "seconds": {"median": median(seconds), "min": min(seconds), "max": max(seconds)},
        "cpu_seconds": median(run["cpu_seconds"] for run in runs),
        "times_sha256": median(run["seconds"] / run["sha256_seconds"] for run in runs),
        "peak_mb": max(run["peak_mb"] for run in runs),
        "checks": runs[0]["checks"],
    }


def main() -> dict[str, object]:
    """Return seconds, the ratio to sha256 of the same file in the same process, and peak memory."""
    with tempfile.TemporaryDirectory(prefix="nbtoolkit-bench-") as temporary:
        root = Path(temporary)
        sized_base(root / "base", 4096, 36)
        return {
            name: measure(adapter_of(root / name, size * MEGABYTE, dtype), root / "base", root)
            for name, size, dtype in (
                ("50 MB BF16", 50, "BF16"),
                ("1 GB BF16", 1000, "BF16"),
                ("1 GB F32", 1000, "F32"),
            )
        }


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
