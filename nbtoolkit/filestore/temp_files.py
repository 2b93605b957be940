"""Names of temporary files, which state their writer, so that abandoned files are recognised."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import time
from functools import lru_cache
from pathlib import Path

import psutil

PREFIX = ".nbtoolkit-"
"""Prefix of all temporary names."""
_NAME = re.compile(
    re.escape(PREFIX) + r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<born>[0-9a-f]+)-(?P<at>[0-9a-f]+)"
    r"-[0-9a-f]{12}(-(?P<content>[0-9a-f]{12}))?\.part"
)
_DAY = 24 * 3600


def temp_name(now: float | None = None, *, sha256: str = "") -> str:
    """Return a new name, below 80 characters, with the writing process and the time.

    With ``sha256`` it also has the expected content, so that another writer may resume the file.
    """
    pid = os.getpid()
    at = int(time.time() if now is None else now)
    content = f"-{sha256[:12]}" if sha256 else ""
    return f"{PREFIX}{_host()}-{pid}-{_process_start(pid):x}-{at:x}-{secrets.token_hex(6)}{content}.part"


def is_temporary(name: str) -> bool:
    """Return whether this is a temporary name."""
    return _NAME.fullmatch(name) is not None


def is_partial_upload_of(name: str, sha256: str) -> bool:
    """Return whether this is the name of an unfinished file of this content."""
    match = _NAME.fullmatch(name)
    return match is not None and match["content"] == sha256[:12]


def is_from_this_process(name: str) -> bool:
    """Return whether this process created the name."""
    match = _NAME.fullmatch(name)
    pid = os.getpid()
    own = (_host(), str(pid), f"{_process_start(pid):x}")
    return match is not None and (match["host"], match["pid"], match["born"]) == own


def is_abandoned(name: str, now: float | None = None) -> bool:
    """Return whether the writer of a temporary file has ended; assumed after a day for other machines."""
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    if match["host"] != _host():
        return (time.time() if now is None else now) - int(match["at"], 16) > _DAY
    try:
        born = psutil.Process(int(match["pid"])).create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
    return abs(born - int(match["born"], 16)) > 2  # the clock may have been set by a second


@lru_cache(maxsize=1)
def _host() -> str:
    """Return a hash of this machine; containers of one host have separate processes, so each is a machine."""
    namespace = Path("/proc/self/ns/pid")
    inside = namespace.readlink().name if namespace.is_symlink() else ""
    return hashlib.sha256(f"{socket.gethostname()}\0{inside}".encode()).hexdigest()[:8]


@lru_cache(maxsize=4)
def _process_start(pid: int) -> int:
    """Return the start time of a process; keyed by pid, since a fork inherits this cache."""
    return int(psutil.Process(pid).create_time())
