"""Hot swap under load: from ``deploy()`` called to the first token of the new adapter."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from nbtoolkit import DeploySettings, Endpoint, LocalTarget, demo, deploy
from nbtoolkit.serving.content_hash import adapter_sha256
from tests.bench.load import Answer, run_load
from tests.bench.served_model import served, settings, talkative_adapter, with_reports

NAMES = ("tone-emotion", "tone-color")
STREAMS = 4
SWAPS = 10
SENTENCE = "I lost my dog yesterday and the house feels empty."


def main(swaps: int = SWAPS) -> dict[str, Any]:
    """Swap ``tone`` between the two demo adapters, each proven, while four clients stream from a third."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        talkative = talkative_adapter(folder)
        first = {"talkative": talkative, "tone": demo.adapter(NAMES[0])}
        with served(with_reports(folder / "workspace", *NAMES), first) as (target, deployment):
            starts = deployment.endpoint.health().engine_starts
            with streams(deployment.endpoint, STREAMS) as seen:
                time.sleep(5)
                timed: list[Swapped] = []
                for turn in range(1, swaps + 1):
                    adapters = {"talkative": talkative, "tone": demo.adapter(NAMES[turn % 2])}
                    timed.append(swap(settings(adapters), target))
                    time.sleep(3)
            restarts = deployment.endpoint.health().engine_starts - starts
    under_load = median(answer.first for answer in seen if not answer.error)
    limit = 1 + 2 * under_load
    return {
        "first_new_token_seconds": spread([one.first_token for one in timed]),
        "deploy_returned_seconds": spread([one.returned for one in timed]),
        "proven": sum(one.proven for one in timed),
        "first_token_under_load_seconds": under_load,
        "limit_seconds": limit,
        "within_limit": max(one.first_token for one in timed) <= limit,
        "requests": len(seen),
        "failed": sum(bool(answer.error) for answer in seen),
        "restarts": restarts,
    }


@dataclass(frozen=True)
class Swapped:
    """Seconds from calling ``deploy``, and whether its proof held."""

    first_token: float
    returned: float
    proven: bool


@contextmanager
def streams(endpoint: Endpoint, count: int) -> Iterator[list[Answer]]:
    """Let ``count`` clients stream responses continuously; yield their answers so far."""
    stop = threading.Event()
    seen: list[Answer] = []
    url, key = endpoint.url, endpoint.key.get_secret_value()

    def stream() -> None:
        while not stop.is_set():
            seen.extend(run_load(url, key, "talkative", 1, 64).answers)

    with ThreadPoolExecutor(count) as pool:
        try:
            for _ in range(count):
                pool.submit(stream)
            yield seen
        finally:
            stop.set()


def swap(wanted: DeploySettings, target: LocalTarget) -> Swapped:
    """Deploy in a thread; send requests until the first token of the new adapter."""
    sha = adapter_sha256(wanted.adapters["tone"])[:16]
    endpoint = target.endpoint()
    headers = {"Authorization": f"Bearer {endpoint.key.get_secret_value()}"}
    start = time.perf_counter()

    def run() -> tuple[float, bool]:
        deployment = deploy(wanted, target=target)
        return time.perf_counter() - start, bool(deployment.proof.verdicts["tone"])

    with (
        ThreadPoolExecutor(1) as pool,
        httpx.Client(base_url=endpoint.url, headers=headers, timeout=60) as http,
    ):
        deploying = pool.submit(run)
        while who_answers(http) != sha:
            if time.perf_counter() - start > 60:
                raise TimeoutError("no answer of the new adapter within 60 s")
        first_token = time.perf_counter() - start
        returned, proven = deploying.result()
    return Swapped(first_token, returned, proven)


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def who_answers(http: httpx.Client) -> str:
    """Request ``tone``; return the start of the adapter's sha256 at its first token."""
    body = {
        "model": "tone",
        "messages": [{"role": "user", "content": SENTENCE}],
        "temperature": 0,
        "stream": True,
    }
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            event = json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
            if any(choice["delta"].get("content") for choice in event.get("choices", [])):
                return event["system_fingerprint"]
    raise RuntimeError(f"no token came: {response.status_code}")
