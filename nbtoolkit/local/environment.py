"""The environment of a local server: its variables, key and ports."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

import psutil

from nbtoolkit.errors import ServerFailed
from nbtoolkit.local.processes import ProcessId

HOST = "127.0.0.1"
PORT_ATTEMPTS = 50

_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSW|CREDENTIAL|CONNECTION_STRING|SIGNATURE|_SAS)", re.IGNORECASE)
_KERNEL_VARIABLE = re.compile(r"(NBTOOLKIT|JPY|JUPYTER|IPY|PAPERMILL|PYDEVD)_?", re.IGNORECASE)
_PYTHON = {"PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "MPLBACKEND", "__PYVENV_LAUNCHER__"}
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Secrets that a custom server may need; on Azure they are secrets of the app."""


def clean_environment(keep: tuple[str, ...] = ()) -> dict[str, str]:
    """Return this process's environment without secrets and variables of the notebook's kernel.

    A server needs neither, and cannot log a secret that it does not have. ``keep`` names exceptions.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in keep or not (_SECRET.search(name) or _KERNEL_VARIABLE.match(name) or name in _PYTHON)
    }


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """Return the values in an environment that must not reach a log."""
    return [value for name, value in environment.items() if _SECRET.search(name) and len(value) >= 8]


def ensure_api_key(path: Path) -> str:
    """Return the key in a file with mode 0600, created on first use; safe if two processes create it."""
    with contextlib.suppress(FileNotFoundError):
        if key := path.read_text(encoding="utf-8").strip():
            return key
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"nbt-{secrets.token_urlsafe(32)}\n")
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)  # unlike a rename, it keeps the key of another process
    finally:
        scratch.unlink()
    return path.read_text(encoding="utf-8").strip()


def free_port(preferred: int) -> int:
    """Return ``preferred`` or the next free port; raises :class:`ServerFailed`."""
    for port in range(preferred, min(preferred + PORT_ATTEMPTS, 65536)):
        if port_is_free(port):
            return port
    raise ServerFailed(
        f"The ports {preferred} to {preferred + PORT_ATTEMPTS - 1} are all in use on this machine.",
        next_step="stop a server, or choose another range with LocalTarget(port=...)",
    )


def port_is_free(port: int) -> bool:
    """Return whether a server can listen on a port now."""
    with socket.socket() as probe:
        if os.name != "nt":  # as servers do: a port with closing connections counts as free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def listening_ports(server: ProcessId) -> set[int]:
    """Return the ports on which a server or one of its child processes listens."""
    try:
        process = psutil.Process(server.pid)
        processes = [process, *process.children(recursive=True)]
    except psutil.Error:
        return set()
    ports: set[int] = set()
    for one in processes:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            connections = one.net_connections(kind="tcp")
            ports |= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN and c.laddr}
    return ports
