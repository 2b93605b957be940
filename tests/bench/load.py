"""Streaming clients that count tokens and measure times."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

import httpx

PROMPTS = (
    "Tell me a long story about a lighthouse keeper and the sea.",
    "Explain how bread is made, from the field to the table.",
    "Describe a walk through an old city in the rain.",
    "Write a letter to a friend about the first day of spring.",
    "What should one know before buying a bicycle?",
    "Explain how the moon causes the tides, in simple words.",
    "Describe a busy market in the early morning.",
    "Tell me about the life of a honey bee, from egg to forager.",
)


@dataclass
class Answer:
    """One streamed answer; times in seconds."""

    tokens: int
    first: float
    total: float
    text: str
    error: str = ""


@dataclass
class Load:
    """All answers of one round and how long it took."""

    answers: list[Answer]
    seconds: float
    failed: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.failed = [answer.error for answer in self.answers if answer.error]

    @property
    def tokens_per_second(self) -> float:
        return sum(answer.tokens for answer in self.answers) / self.seconds

    @property
    def first_token(self) -> float:
        return median(answer.first for answer in self.answers if not answer.error)


def ask(http: httpx.Client, model: str, prompt: str, max_tokens: int) -> Answer:
    """Stream one answer; every chunk with content counts as one token unless usage says otherwise."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    start = time.perf_counter()
    first, chunks, usage, text = 0.0, 0, 0, ""
    try:
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                return Answer(0, 0, 0, "", f"{response.status_code} {response.read()[:200]!r}")
            for line in response.iter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if event.get("error"):
                    return Answer(0, 0, 0, text, str(event["error"]))
                for choice in event.get("choices", []):
                    if content := choice["delta"].get("content"):
                        first = first or time.perf_counter() - start
                        chunks += 1
                        text += content
                if event.get("usage"):
                    usage = event["usage"]["completion_tokens"]
    except httpx.HTTPError as error:
        return Answer(0, 0, 0, text, repr(error))
    return Answer(usage or chunks, first, time.perf_counter() - start, text)


def run_load(url: str, key: str, model: str, clients: int, max_tokens: int, rounds: int = 1) -> Load:
    """Let ``clients`` send requests concurrently, ``rounds`` each."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    barrier = threading.Barrier(clients + 1)

    def client(index: int) -> list[Answer]:
        with httpx.Client(base_url=url, headers=headers, timeout=600) as http:
            barrier.wait()
            prompts = [PROMPTS[(index + turn) % len(PROMPTS)] for turn in range(rounds)]
            return [ask(http, model, prompt, max_tokens) for prompt in prompts]

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(client, index) for index in range(clients)]
        barrier.wait()
        start = time.perf_counter()
        answers = [answer for future in futures for answer in future.result()]
        return Load(answers, time.perf_counter() - start)
