"""Timeouts of Container Apps, in Azure's and in real seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Limits:
    """Timeouts of the platform: names with `_seconds` are Azure's seconds, others real ones."""

    deadline_seconds: float = 600
    """Azure seconds until a new revision is given up ..."""
    deadline: float = 60
    """... but at least so many real ones."""
    start: float = 60
    """Minimum before a startup probe fails."""
    silent: float = 30
    """Minimum before a liveness probe fails."""
    probe_timeout: float = 3
    probe_period: float = 0.1
    grace: float = 5
    """Between SIGTERM and SIGKILL at least."""
    cooldown: float = 30
    """Without requests until zero, at least."""
    hold_seconds: float = 240
    """Azure seconds for which the ingress waits for a replica ..."""
    hold: float = 20
    """... but at least so many real ones."""
    idle_seconds: float = 240
    """Azure seconds for which the ingress waits for the next byte of an answer ..."""
    idle: float = 60
    """... but at least so many real ones."""
    pull_seconds: float = 5
    """Azure seconds for pulling an image."""
