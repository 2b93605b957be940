"""Turn an answer of the chat UI into a line of a golden file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

_WORD = re.compile(r"[^\s\"'`<>(),;\\\\]+")


def golden_line(system: str, max_tokens: int, history: Sequence[Mapping[str, str]]) -> str:
    """Return the last answer of a conversation as a golden prompt; an empty text if there is none.

    The ``must`` requires that the answer contains the whole text; the user edits it.
    """
    if not history or history[-1]["role"] != "assistant" or not history[-1]["content"].strip():
        return ""
    *asked, answer = history
    line: dict[str, object] = {"prompt": asked[-1]["content"]}
    if len(asked) > 1:
        line = {"messages": [{"role": one["role"], "content": one["content"]} for one in asked]}
    if system.strip():
        line["system"] = system
    line |= {"max_tokens": max_tokens, "must": [{"contains": answer["content"].strip()}]}
    return json.dumps(line, ensure_ascii=False)


def line_problem(line: str, is_key: Callable[[str], bool]) -> str:
    """Return why an edited line must not be saved; an empty text if it may be.

    Whether its checks are valid is checked where it is added to a file.
    """
    try:
        content = json.loads(line)
    except ValueError as error:
        return f"This is not JSON: {error}"
    if not isinstance(content, dict) or not (content.get("must") or content.get("nice")):
        return 'This is not a golden prompt: it needs "must", such as [{"contains": "joy"}].'
    if any(is_key(word) or is_key(word.rpartition("=")[2]) for word in _WORD.findall(line)):
        return "This contains the key of this server. Remove it."
    return ""
