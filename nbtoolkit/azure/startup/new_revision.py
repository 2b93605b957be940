"""Change the app's template, which makes a new revision: beside the old one, or after it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.azure.container_apps.downtime import stopped
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.startup.activation import Activation, Way
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_cancellable


def way_of(app: App, now: AppState, *, allow_downtime: bool, progress: Progress) -> Way:
    """Return how a new revision can start; raises :class:`QuotaShort` where that takes downtime."""
    here = run_cancellable(progress, lambda: Activation(app, AppPoller(app), now))
    return here.way(restart=True, allow_downtime=allow_downtime, progress=progress)


def revise(app: App, way: Way, reason: str, changes: Mapping[str, Any], progress: Progress) -> None:
    """Start a revision whose template differs by ``changes``; with ``downtime`` the app stops meanwhile.

    It is started again even where that fails or is cancelled.
    """
    if way == "downtime":
        progress.phase("Stopping the app; nothing answers until the new revision is ready")
    with stopped(app, progress) if way == "downtime" else nullcontext():
        progress.phase("Starting a new revision")
        app.new_revision(reason, progress, changes=changes)
