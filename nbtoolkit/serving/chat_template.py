"""Render conversations with the chat template in force, shared by engine and smoke test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Templates = str | dict[str, str]
"""A chat template, or several by name, as ``tokenizer_config.json`` holds them."""
Message = Mapping[str, Any]

_DEFAULT, _TOOL_USE = "default", "tool_use"
_MARK = "nbtoolkitmark"
_PROBES: dict[str, list[Message]] = {
    "user": [{"role": "user", "content": _MARK}],
    "assistant": [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}],
    "system": [{"role": "system", "content": _MARK}, {"role": "user", "content": "a"}],
}
"""Role → a conversation with the mark in its message; the user's is first, because the others contain it."""


class ChatTemplateError(ValueError):
    """A template does not render a conversation; the message is the template's own."""


def named_templates(value: object) -> dict[str, str]:
    """Return name → template of a template, a dictionary of them or a list of ``{"name", "template"}``."""
    if isinstance(value, str):
        return {_DEFAULT: value}
    if isinstance(value, list | tuple):
        value = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
    if not isinstance(value, dict):
        return {}
    return {name: text for name, text in value.items() if isinstance(name, str) and isinstance(text, str)}


@dataclass(frozen=True, eq=False)
class ChatTemplate:
    """A tokenizer's templates by name; at least one.

    >>> template = ChatTemplate(tokenizer, {"default": "{{ messages[0].content }}"})
    >>> template.render([{"role": "user", "content": "hello"}])
    'hello'
    """

    tokenizer: Any
    templates: Mapping[str, str]
    _parts: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]], repr=False)

    @classmethod
    def of(cls, tokenizer: Any, templates: Templates | None = None) -> ChatTemplate | None:
        """Return the given templates, else the tokenizer's own; None if there are none."""
        named = named_templates(templates) or named_templates(tokenizer.chat_template)
        return cls(tokenizer, named) if named else None

    def select(self, tools: Sequence[Any] | None = None) -> str:
        """Return the template of a conversation; raises :class:`ChatTemplateError` without a default."""
        if tools and _TOOL_USE in self.templates:
            return self.templates[_TOOL_USE]
        if len(self.templates) == 1:
            return next(iter(self.templates.values()))
        if _DEFAULT not in self.templates:
            names = ", ".join(sorted(self.templates))
            raise ChatTemplateError(
                f"there are several chat templates ({names}), and none is named 'default'"
            )
        return self.templates[_DEFAULT]

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """Return the text of a conversation of texts; raises :class:`ChatTemplateError`.

        A content is passed as ``[{"type": "text", "text": …}]`` to a template that renders only lists of
        parts, as that of Llama Guard does.
        """
        template = self.select(tools)
        roles = self._roles_with_parts(template)
        return self._apply(
            template, messages, roles, tools=tools, add_generation_prompt=add_generation_prompt
        )

    def _apply(
        self, template: str, messages: Sequence[Message], roles: frozenset[str], **options: Any
    ) -> str:
        """Render with the content of these roles as parts."""
        conversation = [
            {**message, "content": [{"type": "text", "text": message["content"]}]}
            if message["role"] in roles
            else message
            for message in messages
        ]
        try:
            return self.tokenizer.apply_chat_template(
                conversation, tokenize=False, chat_template=template, **options
            )
        except Exception as error:  # a template can raise anything
            raise ChatTemplateError(str(error) or type(error).__name__) from error

    def _roles_with_parts(self, template: str) -> frozenset[str]:
        """Return the roles whose words the template renders only if content is a list of parts."""
        if template not in self._parts:
            roles = frozenset[str]()
            for role, messages in _PROBES.items():
                with_parts = roles | {role}
                if not self._shows(template, messages, roles) and self._shows(template, messages, with_parts):
                    roles = with_parts
            self._parts[template] = roles
        return self._parts[template]

    def _shows(self, template: str, messages: Sequence[Message], roles: frozenset[str]) -> bool:
        """Return whether the rendering contains the mark as a text, not as an item of a printed list."""
        try:
            text = self._apply(template, messages, roles).lower()
        except ChatTemplateError:
            return False
        return _MARK in text and not any(f"text{quote}: {quote}{_MARK}" in text for quote in "'\"")
