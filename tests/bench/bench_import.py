"""Time and modules of ``import nbtoolkit``."""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median

RUNS = 9
HEAVY = ("torch", "azure", "ipywidgets", "gradio", "transformers", "peft", "httpx", "pydantic")
CODE = """
import sys, time
start = time.perf_counter()
import nbtoolkit
seconds = time.perf_counter() - start
import json
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules)}))
"""


def main() -> dict[str, object]:
    """Return the median seconds of the import alone, in fresh processes, and the heavy modules found."""
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True).stdout)
        for _ in range(RUNS)
    ]
    seconds = [run["seconds"] for run in runs]
    return {
        "import_seconds": {"median": median(seconds), "min": min(seconds), "max": max(seconds)},
        "heavy_modules": [name for name in HEAVY if name in runs[0]["modules"]],
        "modules": len(runs[0]["modules"]),
    }
