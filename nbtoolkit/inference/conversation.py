"""A chat with one or several models at once, without widgets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from nbtoolkit.settings import Settings

if TYPE_CHECKING:
    from nbtoolkit.endpoint import Endpoint


class ChatSettings(Settings):
    """How answers are sampled."""

    system: str = Field(
        default="", title="System message", description="what the model is told first; may be empty"
    )
    temperature: float = Field(default=0.0, ge=0, le=2, description="0 takes the likeliest token each time")
    top_p: float = Field(default=1.0, gt=0, le=1, title="Top p", description="share of likely tokens kept")
    max_tokens: int = Field(default=256, ge=1, title="Longest answer", description="in tokens")
    seed: int | None = Field(default=None, description="the same seed gives the same answer")

    @property
    def request(self) -> dict[str, Any]:
        """The sampling fields of a request."""
        return self.model_dump(exclude={"system"}, exclude_none=True)


@dataclass
class ModelAnswer:
    """What one model answered so far."""

    text: str = ""
    state: Literal["waiting", "answering", "done", "stopped", "failed"] = "waiting"
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def open(self) -> bool:
        """Tell whether more may come."""
        return self.state in ("waiting", "answering")


@dataclass
class Turn:
    """One prompt and the answers of the models that were asked, by name."""

    prompt: str
    answers: dict[str, ModelAnswer] = field(default_factory=dict[str, ModelAnswer])

    @property
    def open(self) -> bool:
        """Tell whether an answer is still coming."""
        return any(answer.open for answer in self.answers.values())


class Conversation:
    """Hold the turns, ask the endpoint and tell ``changed`` whenever a piece of an answer came.

    ``changed`` is called in the threads that read the answers.
    """

    def __init__(self, endpoint: Endpoint, changed: Callable[[], None] = lambda: None) -> None:
        self.turns: list[Turn] = []
        self.changed = changed
        self._endpoint = endpoint
        self._lock = threading.Lock()  # between the readers and who stops them

    @property
    def open(self) -> bool:
        """Tell whether an answer is still coming."""
        return bool(self.turns) and self.turns[-1].open

    def messages(self, model: str, settings: ChatSettings) -> list[dict[str, str]]:
        """Return the history as this model shall see it: its own answers, others' where it gave none."""
        found = [{"role": "system", "content": settings.system}] if settings.system else []
        for turn in self.turns:
            found.append({"role": "user", "content": turn.prompt})
            told = [turn.answers[model]] if model in turn.answers else list(turn.answers.values())
            text = next((answer.text for answer in told if answer.text and not answer.open), None)
            if text is not None:
                found.append({"role": "assistant", "content": text})
            elif turn is not self.turns[-1]:
                found.pop()  # nobody answered it: two user messages in a row break some templates
        return found

    def send(self, prompt: str, models: Sequence[str], settings: ChatSettings) -> Turn:
        """Ask all models at once, each in a thread of its own, and return the growing turn."""
        turn, requests = self._begin(prompt, models, settings)
        for model, messages in requests.items():
            arguments = (turn.answers[model], messages, model, settings)
            threading.Thread(target=self._read, args=arguments, name="nbtoolkit-chat", daemon=True).start()
        self.changed()
        return turn

    def ask(self, prompt: str, model: str, settings: ChatSettings) -> str:
        """Ask in this thread and return the whole answer; raises what the endpoint raises."""
        turn, requests = self._begin(prompt, [model], settings)
        answer = turn.answers[model]
        try:
            self._read(answer, requests[model], model, settings)
        finally:
            self.stop()  # ■ ends it like Stop
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
        """End the answers that are still coming; their text so far stays."""
        for answer in self.turns[-1].answers.values() if self.turns else ():
            self._end(answer, "stopped")
        self.changed()

    def clear(self) -> None:
        """Stop and forget all turns."""
        self.stop()
        self.turns = []
        self.changed()

    def _read(
        self, answer: ModelAnswer, messages: list[dict[str, str]], model: str, settings: ChatSettings
    ) -> None:
        began = time.monotonic()
        pieces: Iterator[str] = iter(())
        try:
            pieces = self._endpoint.chat(messages, model, **settings.request)
            for piece in pieces:
                with self._lock:
                    if not answer.open:
                        return  # stopped meanwhile; leaving closes the request
                    answer.text += piece
                    answer.state = "answering"
                    answer.seconds = time.monotonic() - began
                self.changed()
            self._end(answer, "done")
        except Exception as error:  # noqa: BLE001 - in a thread nobody else would end the answer
            self._end(answer, "failed", error)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
            answer.seconds = time.monotonic() - began
            self.changed()

    def _end(
        self, answer: ModelAnswer, state: Literal["done", "stopped", "failed"], error: Exception | None = None
    ) -> None:
        """Close an answer; who closes it first decides how it ended."""
        with self._lock:
            if answer.open:
                answer.error, answer.state = error, state
