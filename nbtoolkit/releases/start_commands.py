"""Fix the port in the start commands of a custom server."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FIXED_PORT = re.compile(r"export PORT=(\d+) GRADIO_SERVER_PORT=\1")


def with_fixed_port(commands: Sequence[str], port: int | None) -> tuple[str, ...]:
    """Return commands that first export the port; with None the server gets a free port."""
    first = () if port is None else (f"export PORT={port} GRADIO_SERVER_PORT={port}",)
    return (*first, *commands)


def fixed_port(commands: Sequence[str]) -> int | None:
    """Return the port that :func:`with_fixed_port` wrote into commands, None without one."""
    match = _FIXED_PORT.fullmatch(commands[0]) if commands else None
    return int(match[1]) if match else None
