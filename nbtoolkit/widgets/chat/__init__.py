"""The chat form: streamed answers, adapter and base next to each other, and the history."""

from __future__ import annotations

from typing import Any

from nbtoolkit.widgets.chat.session import ChatSession
from nbtoolkit.widgets.html import heading, transcript
from nbtoolkit.widgets.notebook_display import NotebookDisplay


class ChatForm(ChatSession, NotebookDisplay):
    """Display a chat with the models of an endpoint; :meth:`ask` does the same without widgets.

    Requests the served models on first use, which wakes an app at zero replicas. The form shows the reason
    while it waits.
    """

    def _build_view(self) -> Any:
        from nbtoolkit.widgets.chat.view import ChatView

        return ChatView(self)

    def __repr__(self) -> str:
        lines = [f"Chat with {self.endpoint.url}"]
        for turn in self.conversation.turns:
            lines.append(f"> {turn.prompt}")
            lines += [f"{model}: {answer.text}" for model, answer in turn.answers.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return heading(f"Chat with {self.endpoint.url}") + transcript(self.conversation.turns)
