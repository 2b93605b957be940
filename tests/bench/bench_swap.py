"""Hot swap under load: from ``deploy()`` called to the first answer of the new adapter."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from nbtoolkit import demo, deploy
from nbtoolkit.serving.digest import adapter_sha256
from tests.bench.load import run_load
from tests.bench.road import served, settings, talkative_adapter

STREAMS = 4
SWAPS = 10
SENTENCE = "I lost my dog yesterday and the house feels empty."


def main(swaps: int = SWAPS) -> dict[str, Any]:
    """Swap ``tone`` between the two demo adapters while four clients stream from another adapter."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        talkative = talkative_adapter(folder)
        names = ("tone-emotion", "tone-color")
        first = {"talkative": talkative, "tone": demo.adapter(names[0])}
        with served(folder / "workspace", first) as (target, deployment):
            url, key = deployment.endpoint.url, deployment.endpoint.key.get_secret_value()
            starts = deployment.endpoint.health().engine_starts
            stop = threading.Event()
            failed: list[str] = []
            first_tokens: list[float] = []
            asked = [0]

            def stream() -> None:
                while not stop.is_set():
                    load = run_load(url, key, "talkative", 1, 64)
                    asked[0] += len(load.answers)
                    failed.extend(load.failed)
                    first_tokens.extend(a.first for a in load.answers if not a.error)

            threads = [threading.Thread(target=stream) for _ in range(STREAMS)]
            for thread in threads:
                thread.start()
            time.sleep(5)
            seconds, deploys = [], []
            for turn in range(swaps):
                adapters = {"talkative": talkative, "tone": demo.adapter(names[(turn + 1) % 2])}
                seconds.append(swap(settings(adapters), target, url, key, deploys))
                time.sleep(3)
            stop.set()
            for thread in threads:
                thread.join()
            restarts = deployment.endpoint.health().engine_starts - starts
    limit = 1 + 2 * median(first_tokens)
    return {
        "first_new_token_seconds": {"median": median(seconds), "min": min(seconds), "max": max(seconds)},
        "deploy_returned_seconds": {"median": median(deploys), "min": min(deploys), "max": max(deploys)},
        "first_token_under_load_seconds": median(first_tokens),
        "limit_seconds": limit,
        "within_limit": max(seconds) <= limit,
        "requests": asked[0],
        "failed": len(failed),
        "restarts": restarts,
    }


def swap(wanted: Any, target: Any, url: str, key: str, deploys: list[float]) -> float:
    """Deploy in a thread; return the seconds from the call to the first token of the new adapter."""
    sha = adapter_sha256(wanted.adapters["tone"])[:16]
    start = time.perf_counter()

    def run() -> None:
        deploy(wanted, target=target)
        deploys.append(time.perf_counter() - start)

    deploying = threading.Thread(target=run)
    deploying.start()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
        while who_answers(http) != sha:
            if time.perf_counter() - start > 60:
                raise TimeoutError("no answer of the new adapter within 60 s")
    seconds = time.perf_counter() - start
    deploying.join()
    return seconds


def who_answers(http: httpx.Client) -> str:
    """Ask ``tone`` and return, with its first token, the beginning of the sha256 that answers."""
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
