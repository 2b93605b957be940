"""A client that sends the same chat request again and again while something else happens."""

from __future__ import annotations

import threading

import httpx

from nbtoolkit import Endpoint


class RequestLoop:
    """Send chat requests from a thread, ``interval`` seconds apart, and record every outcome.

    ``answers`` are pairs of fingerprint and word; ``failures`` are pairs of status and text, where the status
    is None if no response arrived.
    """

    def __init__(self, endpoint: Endpoint, *, interval: float) -> None:
        self.answers: set[tuple[str, str]] = set()
        self.failures: list[tuple[int | None, str]] = []
        self._endpoint = endpoint
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, name="request-loop")

    def __enter__(self) -> RequestLoop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        headers = {"Authorization": f"Bearer {self._endpoint.key.get_secret_value()}"}
        body = {"model": "tone", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        with httpx.Client(base_url=self._endpoint.url, headers=headers, timeout=20) as client:
            while not self._stop.wait(self._interval):
                try:
                    response = client.post("/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    self.failures.append((None, repr(error)))
                    continue
                if response.status_code != 200:
                    self.failures.append((response.status_code, response.text[:200]))
                    continue
                answer = response.json()
                word = answer["choices"][0]["message"]["content"].strip()
                self.answers.add((answer["system_fingerprint"], word))
