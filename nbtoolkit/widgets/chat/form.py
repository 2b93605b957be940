"""Talk to an endpoint: streaming answers, the base beside the adapter, history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbtoolkit.errors import InvalidSettings, NotReady, RequestRefused
from nbtoolkit.inference.conversation import ChatSettings, Conversation
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets.chat.html import transcript
from nbtoolkit.widgets.notebook_env import mimebundle

if TYPE_CHECKING:
    from nbtoolkit.endpoint import Endpoint, ServedModel
    from nbtoolkit.progress import Progress

_WAKING = 1800.0
"""Seconds for a server that sleeps to become ready."""


class ChatForm:
    """Show a chat with the models of an endpoint; :meth:`ask` does the same without widgets.

    Asks the endpoint for its models on first use, which wakes a server that sleeps; the form says meanwhile
    what it waits for.
    """

    def __init__(self, endpoint: Endpoint, settings: ChatSettings | None = None) -> None:
        self.endpoint = endpoint
        self.settings = settings or ChatSettings()
        self.conversation = Conversation(endpoint)
        self._served: list[ServedModel] = []
        self._view: Any = None

    @property
    def models(self) -> list[ServedModel]:
        """What is served, adapters first; asked for until there is an answer."""
        if not self._served:
            self.reload()
        return self._served

    def wait(self, progress: Progress) -> ChatForm:
        """Return this form once its endpoint answers; where it does already, that costs one request."""
        try:
            self.reload()
        except (NotReady, RequestRefused) as error:
            if getattr(error, "status", None) not in (None, 502, 503, 504):
                raise
            self.endpoint.wait(_WAKING, progress)
            self.reload()
        return self

    def reload(self) -> None:
        """Ask the endpoint again what it serves. Raises what the endpoint raises."""
        self._served = sorted(self.endpoint.models(), key=lambda model: model.parent is None)

    def base_of(self, model: str) -> str | None:
        """Return the base that an adapter is compared with; None for the base itself."""
        parents = {served.id: served.parent for served in self.models}
        parent = parents.get(model)
        return parent if parent in parents else None

    def ask(self, prompt: str, model: str | None = None) -> str:
        """Ask and return the answer, as the next turn of the conversation; by default the first adapter.

        Raises :class:`InvalidSettings` for an unknown model and what the endpoint raises.
        """
        names = [served.id for served in self.models]
        if model is not None and model not in names:
            raise InvalidSettings(
                f"{self.endpoint.url} serves no model {model!r}.",
                next_step=f"use one of: {', '.join(names)}",
            )
        return self.conversation.ask(prompt, model or names[0], self.settings)

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        publish_display_data(self._repr_mimebundle_())

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return mimebundle(self)

    @property
    def view(self) -> Any:
        """The chat's widgets, built on first use."""
        if self._view is None:
            from nbtoolkit.widgets.chat.view import ChatView

            self._view = ChatView(self)
        return self._view

    def __repr__(self) -> str:
        lines = [f"Chat with {self.endpoint.url}"]
        for turn in self.conversation.turns:
            lines.append(f"> {turn.prompt}")
            lines += [f"{model}: {answer.text}" for model, answer in turn.answers.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return page.heading(f"Chat with {self.endpoint.url}") + transcript(self.conversation.turns)
