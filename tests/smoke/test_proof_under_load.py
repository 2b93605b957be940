"""Base, first and second demo adapter serving under a load of 8 clients: no verdict is wrong."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbtoolkit import demo
from nbtoolkit.serving.fingerprint import Fingerprint, judge
from tests.bench.served_model import base_folder
from tests.support.model_checks import fingerprint_of
from tests.support.running_engine import BASE_NAME, RunningEngine, running_engine

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.all, pytest.mark.timeout(3600)]

CLIENTS = 8
REPLAYS = 50
NAMES = ("tone-emotion", "tone-color")


def wrong_verdicts(engine: RunningEngine, prints: dict[str, Fingerprint]) -> list[str]:
    """Replay every fingerprint on base, first and second adapter, and return the verdicts that are wrong."""
    contexts = [context for fingerprint in prints.values() for context in fingerprint.contexts]
    answers = {model: engine.endpoint.replay(model, contexts) for model in (BASE_NAME, *NAMES)}
    wrong: list[str] = []
    for serving, given in answers.items():
        start = 0
        for name, fingerprint in prints.items():
            part = slice(start, start + len(fingerprint.probes))
            start = part.stop
            dtype = fingerprint.dtype
            verdict = judge(fingerprint, given[part], answers[BASE_NAME][part], dtype=dtype)
            if verdict.outcome != ("proven" if name == serving else "adapter differs"):
                wrong.append(f"{serving} serves, fingerprint of {name}: {verdict}")
    return wrong


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_no_verdict_is_wrong(dtype: str) -> None:
    base = base_folder()
    adapters: dict[str, Path] = {name: demo.adapter(name) for name in NAMES}
    prints = {name: fingerprint_of(base, folder, dtype) for name, folder in adapters.items()}
    with running_engine(base, dtype=dtype) as engine, ThreadPoolExecutor(CLIENTS) as pool:
        for name, folder in adapters.items():
            engine.engine.load_adapter(name, folder)
        stop = threading.Event()

        def client(index: int) -> None:
            turn = index
            while not stop.is_set():
                model = (BASE_NAME, *NAMES)[turn % 3]
                engine.endpoint.chat("The sea. " * (1 + turn % 20), model, stream=False, max_tokens=8)
                turn += 1

        clients = [pool.submit(client, index) for index in range(CLIENTS)]
        wrong: list[str] = []
        try:
            for _ in range(REPLAYS):
                wrong += wrong_verdicts(engine, prints)
        finally:
            stop.set()
        for one in clients:
            one.result()
    assert wrong == []
