"""A chat without widgets: the served models, the sampling settings and the conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbtoolkit.errors import InvalidSettings, NotReady, RequestRefused
from nbtoolkit.inference import ChatSettings
from nbtoolkit.inference.conversation import Conversation

if TYPE_CHECKING:
    from nbtoolkit.endpoint import Endpoint, ServedModel
    from nbtoolkit.progress import Progress

_WAKE_UP_TIMEOUT = 1800.0
"""Seconds for an app at zero replicas to become ready."""


class ChatSession:
    """Hold a conversation with the models of an endpoint; see :class:`nbtoolkit.widgets.ChatForm`."""

    def __init__(self, endpoint: Endpoint, settings: ChatSettings | None = None) -> None:
        self.endpoint = endpoint
        self.settings = settings or ChatSettings()
        self.conversation = Conversation(endpoint)
        self._models: list[ServedModel] = []

    @property
    def models(self) -> list[ServedModel]:
        """The served models, adapters first; requested until a request succeeds."""
        if not self._models:
            self.reload()
        return self._models

    def wait(self, progress: Progress) -> None:
        """Wait until the endpoint answers; one request if it already does."""
        try:
            self.reload()
        except (NotReady, RequestRefused) as error:
            if isinstance(error, RequestRefused) and error.status not in (None, 502, 503, 504):
                raise
            self.endpoint.wait(_WAKE_UP_TIMEOUT, progress)
            self.reload()

    def reload(self) -> None:
        """Request the served models again. Raises the errors of the endpoint."""
        self._models = sorted(self.endpoint.models(), key=lambda model: model.parent is None)

    def base_of(self, model: str) -> str | None:
        """Return the base that an adapter is compared with; None for the base itself."""
        parents = {served.id: served.parent for served in self.models}
        parent = parents.get(model)
        return parent if parent in parents else None

    def ask(self, prompt: str, model: str | None = None) -> str:
        """Send the next prompt of the conversation and return the answer; by default from the first adapter.

        Raises :class:`InvalidSettings` for an unknown model and the errors of the endpoint.
        """
        names = [served.id for served in self.models]
        if model is not None and model not in names:
            raise InvalidSettings(
                f"{self.endpoint.url} does not serve a model {model!r}.",
                next_step=f"use one of: {', '.join(names)}",
            )
        return self.conversation.ask(prompt, model or names[0], self.settings)
