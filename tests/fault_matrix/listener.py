"""A client of the app that asks all the time: what served before must serve on."""

from __future__ import annotations

import threading

import httpx

from nbtoolkit import Endpoint

PAUSE = 0.1


class Listener:
    """Ask for a word again and again; ``wrong`` is what was no whole answer of a release that may serve."""

    def __init__(self, endpoint: Endpoint, words: set[str]) -> None:
        self.wrong: list[str] = []
        self._endpoint = endpoint
        self._words = words
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="listener")

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        headers = {"Authorization": f"Bearer {self._endpoint.key.get_secret_value()}"}
        body = {"model": "tone", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        with httpx.Client(base_url=self._endpoint.url, headers=headers, timeout=20) as client:
            while not self._stop.wait(PAUSE):
                try:
                    response = client.post("/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    self.wrong.append(f"no answer meanwhile: {error!r}")
                    continue
                if response.status_code != 200:
                    self.wrong.append(f"{response.status_code} meanwhile: {response.text[:200]}")
                    continue
                word = response.json()["choices"][0]["message"]["content"].strip()
                if word not in self._words:
                    self.wrong.append(f"{word} answered meanwhile")
