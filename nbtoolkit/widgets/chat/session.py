"""A chat without widgets: the served models, the sampling settings and the conversation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbtoolkit.errors import InvalidSettings, NotReady, RequestRefused, WorkspaceNotFound
from nbtoolkit.golden.golden_file import GOLDEN_FILE, add_golden
from nbtoolkit.golden.prompts import AnswerCheck, ChatMessage, GoldenPrompt
from nbtoolkit.inference import ChatSettings
from nbtoolkit.inference.conversation import Conversation
from nbtoolkit.workspace import Workspace

if TYPE_CHECKING:
    from nbtoolkit.endpoint import Endpoint, ServedModel
    from nbtoolkit.progress import Progress

_WAKE_UP_TIMEOUT = 1800.0
"""Seconds for an app at zero replicas to become ready."""


class ChatSession:
    """Hold a conversation with the models of an endpoint; see :class:`nbtoolkit.widgets.ChatForm`."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: ChatSettings | None = None,
        *,
        golden: Path | str | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.golden = golden
        self._workspace = workspace
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

    @property
    def workspace(self) -> Workspace | None:
        """The workspace; None if the working directory is in none."""
        if self._workspace is None:
            with suppress(WorkspaceNotFound):
                self._workspace = Workspace.find()
        return self._workspace

    def golden_line(self, model: str | None = None) -> dict[str, Any]:
        """Return the last answer as a line of a golden file, for you to edit; see :meth:`add_golden`.

        ``must`` requires that the answer contains the whole text. ``model`` selects one of several answers.
        Raises :class:`InvalidSettings` if there is no answer.
        """
        turn = self.conversation.turns[-1] if self.conversation.turns else None
        answers = turn.answers if turn else {}
        name = model if model in answers else next(reversed(answers), None)
        answer = answers[name] if name else None
        if turn is None or name is None or answer is None or answer.open or not answer.text.strip():
            raise InvalidSettings(
                "The chat has no complete answer to its last prompt.",
                next_step="ask, and wait for the answer",
            )
        messages = self.conversation.messages(name, self.settings)
        if messages[-1]["role"] == "assistant":
            messages.pop()
        prompt = GoldenPrompt(
            messages=tuple(ChatMessage.model_validate(message) for message in messages),
            max_tokens=self.settings.max_tokens,
            must=(AnswerCheck(kind="contains", value=answer.text.strip()),),
        )
        return prompt.to_json()

    def add_golden(self, line: Mapping[str, Any], file: Path | str | None = None) -> GoldenPrompt:
        """Append a golden prompt to ``file``, by default the chat's ``golden``, and return it.

        A relative path starts at the workspace; of an adapter's folder it is ``golden.jsonl``. Raises
        :class:`InvalidSettings` if the line is not valid or contains a secret, such as the endpoint's key.

        >>> line = form.golden_line()
        >>> form.add_golden({**line, "must": [{"contains": "joy"}]}, "adapters/tone")
        """
        path = file or self.golden
        if path is None:
            raise InvalidSettings(
                "The golden prompt has no file.", next_step="name a file, or the folder of the adapter"
            )
        path = self.workspace.path(path) if self.workspace else Path(path)
        return add_golden(path, line, secrets=[self.endpoint.key])

    def golden_files(self) -> list[str]:
        """Return the golden file of every adapter folder of the workspace."""
        from nbtoolkit.widgets.model_forms import adapter_folders

        folders = adapter_folders(self.workspace) if self.workspace else []
        return [f"{folder}/{GOLDEN_FILE}" for folder in folders]

    def default_golden_file(self, model: str | None) -> str:
        """Return the chat's golden file, else that of the only adapter folder with the model's name."""
        if self.golden is not None:
            return str(self.golden)
        named = [file for file in self.golden_files() if model in Path(file).parts]
        return named[0] if len(named) == 1 else ""
