"""A chat with one or several models at the same time; the state behind the chat form."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from nbtoolkit.inference import ChatSettings
from nbtoolkit.utils.threads import start_daemon

if TYPE_CHECKING:
    from nbtoolkit.endpoint import Endpoint


@dataclass
class ModelAnswer:
    """The answer of one model so far."""

    text: str = ""
    state: Literal["waiting", "answering", "done", "stopped", "failed"] = "waiting"
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def open(self) -> bool:
        """Return whether the answer is not complete yet."""
        return self.state in ("waiting", "answering")


@dataclass
class Turn:
    """One prompt and the answers to it, by model name."""

    prompt: str
    answers: dict[str, ModelAnswer] = field(default_factory=dict[str, ModelAnswer])

    @property
    def open(self) -> bool:
        """Return whether an answer is not complete yet."""
        return any(answer.open for answer in self.answers.values())


class Conversation:
    """Keep the turns of a chat and send its requests.

    ``changed`` is called for each piece of an answer, in the thread that reads it.
    """

    def __init__(self, endpoint: Endpoint, changed: Callable[[], None] = lambda: None) -> None:
        self.turns: list[Turn] = []
        self.changed = changed
        self._endpoint = endpoint
        self._lock = threading.Lock()  # readers and stop() change the state of an answer

    @property
    def open(self) -> bool:
        """Return whether an answer is not complete yet."""
        return bool(self.turns) and self.turns[-1].open

    def messages(self, model: str, settings: ChatSettings) -> list[dict[str, str]]:
        """Return the history for a model: its own answers, or another model's answer if it gave none."""
        messages = [{"role": "system", "content": settings.system}] if settings.system else []
        for turn in self.turns:
            messages.append({"role": "user", "content": turn.prompt})
            answers = [turn.answers[model]] if model in turn.answers else list(turn.answers.values())
            text = next((answer.text for answer in answers if answer.text and not answer.open), None)
            if text is not None:
                messages.append({"role": "assistant", "content": text})
            elif turn is not self.turns[-1]:
                messages.pop()  # no answer: two user messages in a row break some chat templates
        return messages

    def send(self, prompt: str, models: Sequence[str], settings: ChatSettings) -> Turn:
        """Send the prompt to all models at once, each in a daemon thread; return the growing turn."""
        turn, requests = self._begin(prompt, models, settings)
        for model, messages in requests.items():
            read = partial(self._read, turn.answers[model], messages, model, settings)
            start_daemon(read, name="chat")
        self.changed()
        return turn

    def ask(self, prompt: str, model: str, settings: ChatSettings) -> str:
        """Send the prompt in this thread and return the whole answer; raises like :meth:`Endpoint.chat`."""
        turn, requests = self._begin(prompt, [model], settings)
        answer = turn.answers[model]
        try:
            self._read(answer, requests[model], model, settings)
        finally:
            self.stop()  # an interrupt ends the answer like Stop
        if answer.error is not None:
            raise answer.error
        return answer.text

    def _begin(
        self, prompt: str, models: Sequence[str], settings: ChatSettings
    ) -> tuple[Turn, dict[str, list[dict[str, str]]]]:
        turn = Turn(prompt, {model: ModelAnswer() for model in models})
        self.turns.append(turn)
        return turn, {model: self.messages(model, settings) for model in models}

    def stop(self) -> None:
        """End the open answers; their text so far stays."""
        for answer in self.turns[-1].answers.values() if self.turns else ():
            self._end(answer, "stopped")
        self.changed()

    def clear(self) -> None:
        """End the open answers and delete all turns."""
        self.stop()
        self.turns = []
        self.changed()

    def _read(
        self, answer: ModelAnswer, messages: list[dict[str, str]], model: str, settings: ChatSettings
    ) -> None:
        start = time.monotonic()
        pieces: Iterator[str] = iter(())
        try:
            pieces = self._endpoint.chat(messages, model, **settings.request)
            for piece in pieces:
                with self._lock:
                    if not answer.open:
                        return  # stopped meanwhile; the request is closed below
                    answer.text += piece
                    answer.state = "answering"
                    answer.seconds = time.monotonic() - start
                self.changed()
            self._end(answer, "done")
        except Exception as error:  # noqa: BLE001  an error in this thread must end the answer
            self._end(answer, "failed", error)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
            answer.seconds = time.monotonic() - start
            self.changed()

    def _end(
        self, answer: ModelAnswer, state: Literal["done", "stopped", "failed"], error: Exception | None = None
    ) -> None:
        """Set the final state of an answer, unless it has one already."""
        with self._lock:
            if answer.open:
                answer.error, answer.state = error, state
