"""Every answer during swaps is from the adapter that was active when its request began."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from nbtoolkit import LocalTarget, demo, deploy
from tests.bench.served_model import settings, talkative_adapter, with_reports

CLIENTS = 8
NAMES = ("tone-emotion", "tone-color")


@dataclass(frozen=True)
class TimedRequest:
    """One request: start, end, the adapter that the response names, and the answer."""

    model: str
    began: float
    ended: float
    fingerprint: str
    text: str


@dataclass(frozen=True)
class TimedSwap:
    """One deploy: times of call and return, and the sha256 of its adapter."""

    called: float
    returned: float
    sha256: str


def ask(http: httpx.Client, model: str, sentence: str) -> TimedRequest:
    began = time.monotonic()
    body = {
        "model": model,
        "messages": [{"role": "user", "content": sentence}],
        "max_tokens": 8,
        "temperature": 0,
    }
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    text = answer["choices"][0]["message"]["content"].strip()
    return TimedRequest(model, began, time.monotonic(), answer["system_fingerprint"], text)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("requests", "swaps"), [(100, 2), pytest.param(500, 10, marks=pytest.mark.all)], ids=["sample", "all"]
)
def test_every_answer_is_from_the_active_adapter(tmp_path: Path, requests: int, swaps: int) -> None:
    target = LocalTarget(with_reports(tmp_path, *NAMES))
    words = {name: set(demo.ADAPTERS[name].values()) for name in NAMES}
    sentences = list(demo.PROMPTS)
    asked: list[TimedRequest] = []
    try:
        # every swap replaces "tone" and must not change "fixed"
        adapters = {"tone": demo.adapter(NAMES[0]), "fixed": talkative_adapter(tmp_path)}
        started = time.monotonic()
        deployment = deploy(settings(adapters), target=target)
        assert "tone" in deployment.release.reports, "every swap must be proven"
        shas = {a.name: a.sha256 for a in deployment.release.adapters}
        public = [TimedSwap(started, time.monotonic(), shas["tone"])]
        word_of = {shas["tone"][:16]: words[NAMES[0]]}
        left, lock = [requests], threading.Lock()
        swapped = threading.Event()

        def client(index: int) -> None:
            key = deployment.endpoint.key.get_secret_value()
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=deployment.endpoint.url, headers=headers, timeout=120) as http:
                turn = 0
                while True:
                    with lock:
                        if left[0] <= 0 and swapped.is_set():
                            return
                        left[0] -= 1
                    model = "tone" if (index + turn) % 4 else "fixed"
                    asked.append(ask(http, model, sentences[turn % len(sentences)]))
                    turn += 1

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(client, index) for index in range(CLIENTS)]
            for turn in range(1, swaps + 1):
                name = NAMES[turn % 2]
                called = time.monotonic()
                now = deploy(settings({**adapters, "tone": demo.adapter(name)}), target=target)
                sha = next(a.sha256 for a in now.release.adapters if a.name == "tone")
                public.append(TimedSwap(called, time.monotonic(), sha))
                word_of[sha[:16]] = words[name]
            swapped.set()
            for done in clients:
                done.result()
        health = deployment.endpoint.health()
        assert health.engine_starts == 1, "a swap must not restart the engine"
    finally:
        target.destroy()
    assert len(asked) >= requests
    for one in asked:
        if one.model == "fixed":
            assert one.fingerprint == shas["fixed"][:16], one
            continue
        assert one.text in word_of[one.fingerprint], one
        before = [swap for swap in public if swap.returned <= one.began][-1:]
        # a swap that began after the request arrived does not count; a busy machine may take half a second
        during = [swap for swap in public if swap.called <= one.began + 0.5 and swap.returned > one.began]
        allowed = {swap.sha256[:16] for swap in [*before, *during]}
        assert one.fingerprint in allowed, (one, public)
    print(f"{len(asked)} requests, {len(public) - 1} swaps, all from the adapter that was public")
