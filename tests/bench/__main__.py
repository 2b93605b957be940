"""Run the benchmarks, print a table, write JSON: ``make bench`` or ``python -m tests.bench [NAME ...]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

NAMES = ("throughput", "swap", "sync", "azure_sync", "import", "static", "smoke")


def machine() -> dict[str, Any]:
    """Name the machine and the versions, so that figures can be read later."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    packages = ("torch", "transformers", "peft")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def rows(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Flatten results into rows of a table."""
    if isinstance(value, dict) and set(value) == {"median", "min", "max"}:
        return [(prefix, f"{value['median']:.4g}   ({value['min']:.4g} … {value['max']:.4g})")]
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in rows(item, f"{prefix} · {key}".strip(" ·"))]
    return [(prefix, f"{value:.4g}" if isinstance(value, float) else str(value))]


def main() -> int:
    """Run the named benchmarks; return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=[], help=f"some of {', '.join(NAMES)}; all by default")
    parser.add_argument("--output", type=Path, default=Path(".nbtoolkit/bench.json"))
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    results: dict[str, Any] = {"machine": machine()}
    for name in options.names or NAMES:
        print(f"… {name}", file=sys.stderr, flush=True)
        results[name] = import_module(f"tests.bench.bench_{name}").main()
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=2))
    width = max(len(label) for label, _ in rows(results))
    for label, text in rows(results):
        print(f"{label:<{width}}  {text}")
    print(f"\nmedian (smallest … largest); as JSON: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
