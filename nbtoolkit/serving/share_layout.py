"""Paths on the share, and the schemas of its small files."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

ROOT = "nbtoolkit"
ACTIVE = f"{ROOT}/active"
RELEASES = f"{ROOT}/releases"
CODE = f"{ROOT}/code"
WHEELS = f"{ROOT}/wheels"
ADAPTERS = f"{ROOT}/adapters"
BASES = f"{ROOT}/bases"
REPORTS = f"{ROOT}/reports"
REPLICAS = f"{ROOT}/replicas"
OWN = "inference"

CODE_PACKAGE = "serving"
"""The server's package below ``code/<sha256>/``: ``PYTHONPATH=code/<sha256> python -m serving``."""


def pointer_path(n: int) -> str:
    """Return the path of the n-th pointer."""
    return f"{ACTIVE}/{n}.json"


def pointer_number(name: str) -> int | None:
    """Return n for the file name of a pointer, None for any other name."""
    match = re.fullmatch(r"([1-9]\d*)\.json", name)
    return int(match[1]) if match else None


def release_path(release_id: str) -> str:
    """Return the path of a release in the history."""
    return f"{RELEASES}/{release_id}.json"


def adapter_path(sha256: str) -> str:
    """Return the folder of an adapter."""
    return f"{ADAPTERS}/{sha256}"


def base_path(sha256: str) -> str:
    """Return the folder of an uploaded base model."""
    return f"{BASES}/{sha256}"


def wheels_path(sha256: str) -> str:
    """Return the folder of the wheels of a lock."""
    return f"{WHEELS}/{sha256}"


def code_path(sha256: str) -> str:
    """Return the folder to put on PYTHONPATH."""
    return f"{CODE}/{sha256}"


def report_path(sha256: str) -> str:
    """Return the path of a smoke report, which holds the adapter's fingerprint."""
    return f"{REPORTS}/{sha256}.json"


def heartbeat_path(replica: str) -> str:
    """Return the path of a replica's heartbeat."""
    return f"{REPLICAS}/{replica}.json"


Phase = Literal["starting", "loading", "ready", "restarting", "draining", "stopped", "failed"]


class _ShareFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Pointer(_ShareFile):
    """Which release is public; the highest valid number counts."""

    n: int
    release: str
    by: str
    """Who published it (user, host, workspace), for the message to the loser of a race."""
    at: datetime


class Failure(_ShareFile):
    """Why a published release is not served."""

    n: int
    release: str
    error: str


class Heartbeat(_ShareFile):
    """The state of one replica; its gateway writes it on every change and every few seconds."""

    replica: str
    at: datetime
    phase: Phase
    n: int | None = None
    """Number of the served pointer."""
    release: str | None = None
    adapters: dict[str, str] = {}
    """Public name → sha256, as proven inside this replica."""
    engine_starts: int = 0
    pending: str | None = None
    """A newer release that needs a restart."""
    failed: Failure | None = None
    last_error: str | None = None
