"""Hot swap under load: from ``deploy()`` called to the first answer of the new adapter."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from nbtoolkit import demo, deploy
from tests.bench.load import ask, run_load
from tests.bench.road import served, settings, talkative_adapter

STREAMS = 4
SWAPS = 6
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
                label_words = demo.ADAPTERS[names[(turn + 1) % 2]]
                adapters = {"talkative": talkative, "tone": demo.adapter(names[(turn + 1) % 2])}
                seconds.append(swap(settings(adapters), target, url, key, set(label_words.values()), deploys))
                time.sleep(3)
            stop.set()
            for thread in threads:
                thread.join()
            restarts = deployment.endpoint.health().engine_starts - starts
    limit = 1 + 2 * median(first_tokens)
    return {
        "first_new_answer_seconds": {"median": median(seconds), "min": min(seconds), "max": max(seconds)},
        "deploy_returned_seconds": {"median": median(deploys), "min": min(deploys), "max": max(deploys)},
        "first_token_under_load_seconds": median(first_tokens),
        "limit_seconds": limit,
        "within_limit": max(seconds) <= limit,
        "requests": asked[0],
        "failed": len(failed),
        "restarts": restarts,
    }


def swap(wanted: Any, target: Any, url: str, key: str, words: set[str], deploys: list[float]) -> float:
    """Deploy in a thread and ask until a word of the new adapter comes; return the seconds from the call."""
    start = time.perf_counter()

    def run() -> None:
        deploy(wanted, target=target)
        deploys.append(time.perf_counter() - start)

    deploying = threading.Thread(target=run)
    deploying.start()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
        while ask(http, "tone", SENTENCE, 4).text.strip() not in words:
            if time.perf_counter() - start > 60:
                raise TimeoutError("no answer of the new adapter within 60 s")
    seconds = time.perf_counter() - start
    deploying.join()
    return seconds
