"""Throughput and time to first token at 1, 4 and 8 clients, compared with one ``generate`` per request."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.load import Load, run_load
from tests.bench.served_model import base_folder, baseline, served, talkative_adapter, with_reports

CLIENTS = (1, 4, 8)
RUNS = 5
MAX_TOKENS = 48


def summary(loads: list[Load]) -> dict[str, Any]:
    """Medians with their spread over the runs."""
    speed = [load.tokens_per_second for load in loads]
    first = [load.first_token for load in loads]
    return {
        "tokens_per_second": {"median": median(speed), "min": min(speed), "max": max(speed)},
        "first_token_seconds": {"median": median(first), "min": min(first), "max": max(first)},
        "failed": sum(len(load.failed) for load in loads),
    }


def main(runs: int = RUNS) -> dict[str, Any]:
    """Measure both servers alternately after a warm-up round; return medians and their ratios."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        adapter = talkative_adapter(folder)
        with served(with_reports(folder / "workspace"), {"talkative": adapter}) as (_, deployment):
            endpoint = deployment.endpoint
            dtype = endpoint.health().engine["dtype"]
            with baseline(base_folder(), adapter, dtype) as baseline_url:
                servers = {
                    "ours": (endpoint.url, endpoint.key.get_secret_value()),
                    "baseline": (baseline_url, ""),
                }
                result: dict[str, Any] = {"dtype": dtype, "max_tokens": MAX_TOKENS, "runs": runs}
                for clients in CLIENTS:
                    loads: dict[str, list[Load]] = {name: [] for name in servers}
                    for turn in range(runs + 1):
                        for name, (url, key) in servers.items():
                            load = run_load(url, key, "talkative", clients, MAX_TOKENS)
                            if turn:
                                loads[name].append(load)
                    row: dict[str, Any] = {name: summary(found) for name, found in loads.items()}
                    for figure in ("tokens_per_second", "first_token_seconds"):
                        row[f"{figure}_ratio"] = (
                            row["ours"][figure]["median"] / row["baseline"][figure]["median"]
                        )
                    result[f"{clients} clients"] = row
    return result
