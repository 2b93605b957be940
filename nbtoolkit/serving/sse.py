"""Read the server-sent events of a streamed OpenAI answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

STREAM_END = "[DONE]"
"""The data of the last event."""


def event_data(lines: Iterable[str]) -> Iterator[str]:
    """Yield the data of each event; comments, which keep an idle connection open, are skipped."""
    for line in lines:
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()
