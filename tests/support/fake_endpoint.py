"""An endpoint that streams its answers from a list."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nbtoolkit.endpoint import ServedModel
from nbtoolkit.errors import RequestRefused

BASE = "tiny-base"


class FakeEndpoint:
    """Serve a base and adapters; each model streams its pieces and raises an exception among them.

    While ``gate`` is cleared, answers stop after their first piece.
    """

    url = "http://127.0.0.1:9"

    def __init__(self, answers: Mapping[str, Sequence[object]], pause: float = 0.0) -> None:
        self._answers = dict(answers)
        self._pause = pause
        self.gate = threading.Event()
        self.gate.set()
        self.requests: list[dict[str, Any]] = []
        self.closed: list[str] = []

    def models(self) -> list[ServedModel]:
        return [
            ServedModel(id=name, parent=None if name == BASE else BASE)
            for name in sorted(self._answers, reverse=True)
        ]

    def chat(self, prompt: Any, model: str | None = None, *, stream: bool = True, **sampling: Any) -> Any:
        assert model is not None
        self.requests.append({"prompt": prompt, "model": model, **sampling})
        pieces = self._pieces(model)
        return pieces if stream else "".join(pieces)

    def _pieces(self, model: str) -> Iterator[str]:
        try:
            for i, piece in enumerate(self._answers[model]):
                if isinstance(piece, Exception):
                    raise piece
                yield str(piece)
                if i == 0:
                    self.gate.wait(10)
                threading.Event().wait(self._pause)
        finally:
            self.closed.append(model)


def refused(message: str) -> RequestRefused:
    return RequestRefused(message, next_step="ask again later", status=429, code=None)
