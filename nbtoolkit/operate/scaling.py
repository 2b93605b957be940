"""Set the replica limits of the app, and stop or start it."""

from __future__ import annotations

from pydantic import Field, model_validator

from nbtoolkit.azure.startup.activation import change_template, choose_revision_method
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.settings import Settings
from nbtoolkit.target import TargetStatus
from nbtoolkit.utils.threads import run_cancellable


class ScaleSettings(Settings):
    """The minimum and maximum number of replicas; each runs on its own GPU."""

    minimum: int = Field(default=0, ge=0, le=30, description="0: no GPU costs without requests")
    maximum: int = Field(default=1, ge=1, le=30, description="the maximum number of GPUs")
    running: bool = Field(default=True, description="no: stop the app, so that no request wakes it")

    allow_downtime: bool = Field(
        default=False, description="stop the app first if there is no GPU for old and new at once"
    )

    @model_validator(mode="after")
    def _validate_order(self) -> ScaleSettings:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


def scale(
    settings: ScaleSettings, *, target: AzureTarget | None = None, progress: Progress | None = None
) -> TargetStatus:
    """Set the replica limits of the app, stop or start it, and return its status.

    Changed limits make a new revision with the same content: replicas of both run for a moment. Equal values
    are not written. Raises :class:`QuotaShort` if there is no GPU for both and downtime is not allowed,
    :class:`AzureFailed`, :class:`Busy`.
    """
    progress = progress or SILENT()
    target = target or AzureTarget()
    with target.workspace.lock("scale", target=target.name):
        app = target.app
        progress.phase(f"Reading the app {app.provisioned.app}")
        state = run_cancellable(progress, app.get)
        if (state.min_replicas, state.max_replicas) != (settings.minimum, settings.maximum):
            method = choose_revision_method(
                app, state, allow_downtime=settings.allow_downtime, progress=progress
            )
            limits = {"minReplicas": settings.minimum, "maxReplicas": settings.maximum}
            change_template(app, method, "scale", {"scale": limits}, progress)
        if settings.running and state.stopped:
            app.start(progress)
        elif not settings.running and not state.stopped:
            progress.phase("Stopping the app")
            app.stop(progress)
        return run_cancellable(progress, target.status)
