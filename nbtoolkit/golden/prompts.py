"""A golden prompt and its checks as values."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

CheckKind = Literal["contains", "not_contains", "exact", "regex", "json_schema", "number"]
KINDS: tuple[CheckKind, ...] = get_args(CheckKind)
MAX_TOKENS = 64
"""Length of an answer if the prompt does not set it."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AnswerCheck(_Value):
    """One condition on an answer; raises ``ValueError`` (pydantic's) with the reason if it is not valid."""

    kind: CheckKind
    value: Any
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    ignore_case: bool = False

    @model_validator(mode="after")
    def _check_value(self) -> AnswerCheck:
        if problem := _value_problem(self.kind, self.value, self.ignore_case):
            raise ValueError(problem)
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the check as it is written in a file."""
        options = self.model_dump(include={"tolerance", "ignore_case"}, exclude_defaults=True)
        return {self.kind: self.value, **options}


class ChatMessage(_Value):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class GoldenPrompt(_Value):
    """A conversation and the checks of the answer to it.

    An answer that fails a ``must`` fails the smoke test; ``nice`` checks are counted. ``expected`` is an
    answer whose likelihood is compared between adapter and base.
    """

    id: str = ""
    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    max_tokens: int = Field(default=MAX_TOKENS, ge=1)
    must: tuple[AnswerCheck, ...] = ()
    nice: tuple[AnswerCheck, ...] = ()
    expected: str | None = None

    @property
    def chat(self) -> list[dict[str, str]]:
        """The messages as chat templates and the OpenAI API expect them."""
        return [message.model_dump() for message in self.messages]

    @property
    def text(self) -> str:
        """The messages as plain text, for a model without a chat template."""
        return "\n".join(message.content for message in self.messages)

    @property
    def question(self) -> str:
        """The last message, for display."""
        return self.messages[-1].content

    def to_json(self) -> dict[str, Any]:
        """Return the prompt as it is written in a file."""
        line: dict[str, Any] = {"id": self.id} if self.id else {}
        *before, last = self.messages
        if not before and last.role == "user":
            line["prompt"] = last.content
        elif [message.role for message in before] == ["system"]:
            line |= {"prompt": last.content, "system": before[0].content}
        else:
            line["messages"] = self.chat
        if self.max_tokens != MAX_TOKENS:
            line["max_tokens"] = self.max_tokens
        for name in ("must", "nice"):
            if checks := getattr(self, name):
                line[name] = [check.to_json() for check in checks]
        return {**line, **({"expected": self.expected} if self.expected is not None else {})}


def _value_problem(kind: CheckKind, value: Any, ignore_case: bool) -> str:
    """Return why a check's value is not valid; an empty text if it is."""
    if kind == "json_schema":
        return _schema_problem(value)
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"number needs a finite number, found {_shown(value)}"
        return ""
    if not isinstance(value, str):
        hint = "; write it in quotes" if isinstance(value, int | float) else ""
        return f"{kind} needs text, found {_shown(value)}{hint}"
    if not value.strip() and kind != "regex":
        return f"{kind} needs text, and it is empty"
    if kind == "regex":
        return _regex_problem(value, ignore_case)
    return ""


def _regex_problem(value: str, ignore_case: bool) -> str:
    if not value:
        return "regex is empty, so every answer matches"
    try:
        re.compile(value, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        at = f" at position {error.pos}" if error.pos is not None else ""
        return f"regex {_shown(value)} is not valid: {error.msg}{at}"
    except (OverflowError, RecursionError) as error:
        return f"regex {_shown(value)} is not valid: {error}"
    return ""


def _schema_problem(schema: Any) -> str:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    if not isinstance(schema, dict | bool):
        return f"json_schema needs an object, found {_shown(schema)}"
    try:
        validator: Any = validator_for(schema, default=Draft202012Validator)
        validator.check_schema(schema)
        resource = Resource.from_contents(schema, default_specification=DRAFT202012)
        resolver = Registry().with_resource("", resource).resolver()
        for reference in _references(schema):
            resolver.lookup(reference)
    except SchemaError as error:
        at = f" at {error.json_path}" if error.json_path != "$" else ""
        return f"json_schema is not valid{at}: {error.message}"
    except Unresolvable as error:
        return f"json_schema is not valid: the reference {error.ref!r} leads nowhere in this schema"
    except RecursionError:
        return "json_schema is nested too deeply"
    return ""


def _references(schema: Any) -> list[str]:
    """Return all values of ``$ref``."""
    if isinstance(schema, list):
        return [one for part in schema for one in _references(part)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return [*own, *(one for part in schema.values() for one in _references(part))]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text if len(text) <= 60 else f"{text[:59]}…"
    return repr(text) if isinstance(value, str) else text
