"""A client that sends requests to the app all the time: what was served must stay served."""

from __future__ import annotations

import threading

import httpx

from nbtoolkit import Endpoint

PAUSE = 0.1


class ContinuousClient:
    """Send chat requests in a loop; ``problems`` has each response that is not one of ``words``."""

    def __init__(self, endpoint: Endpoint, words: set[str]) -> None:
        self.problems: list[str] = []
        self._endpoint = endpoint
        self._words = words
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="continuous-client")

    def __enter__(self) -> ContinuousClient:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._endpoint.key.get_secret_value()}"}
        body = {"model": "tone", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        with httpx.Client(base_url=self._endpoint.url, headers=headers, timeout=20) as client:
            while not self._stop.wait(PAUSE):
                try:
                    response = client.post("/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    self.problems.append(f"no response during the step: {error!r}")
                    continue
                if response.status_code != 200:
                    self.problems.append(f"{response.status_code} during the step: {response.text[:200]}")
                    continue
                word = response.json()["choices"][0]["message"]["content"].strip()
                if word not in self._words:
                    self.problems.append(f"the response during the step was {word}")
