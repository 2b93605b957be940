"""How many replicas run: the limits, and zero now."""

from __future__ import annotations

from pydantic import Field, model_validator

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.startup.activation import change_template, choose_revision_method
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.settings import Settings
from nbtoolkit.target import TargetStatus
from nbtoolkit.utils.threads import run_cancellable


class ScaleSettings(Settings):
    """The least and the most replicas; each runs on a GPU of its own."""

    minimum: int = Field(default=0, ge=0, le=30, description="0: no GPU is paid for while nobody asks")
    maximum: int = Field(default=1, ge=1, le=30, description="never more GPUs than this")
    running: bool = Field(default=True, description="no: stop the app, so that nothing can wake it")

    allow_downtime: bool = Field(
        default=False, description="stop the app first where there is no GPU for old and new at once"
    )

    @model_validator(mode="after")
    def _ordered(self) -> ScaleSettings:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


def scale(
    settings: ScaleSettings, *, target: AzureTarget | None = None, progress: Progress | None = None
) -> TargetStatus:
    """Set the limits of the app, and stop or start it; return how it then stands.

    Changed limits make a new revision with the same content: replicas of both run for a moment. What is so
    already is left alone. Raises :class:`QuotaShort` where there is no GPU for both and downtime is not
    allowed, :class:`AzureFailed`, :class:`Busy`.
    """
    progress = progress or SILENT()
    target = target or AzureTarget()
    with target.workspace.lock("scale", target=target.name):
        app = target.app
        progress.phase(f"Reading the app {app.provisioned.app}")
        now = run_cancellable(progress, app.get)
        if (now.min_replicas, now.max_replicas) != (settings.minimum, settings.maximum):
            way = choose_revision_method(app, now, allow_downtime=settings.allow_downtime, progress=progress)
            limits = {"minReplicas": settings.minimum, "maxReplicas": settings.maximum}
            change_template(app, way, "scale", {"scale": limits}, progress)
        _run(app, settings.running, stopped=now.stopped, progress=progress)
        return run_cancellable(progress, target.status)


def _run(app: ContainerApp, running: bool, *, stopped: bool, progress: Progress) -> None:
    if running and stopped:
        app.start(progress)
    elif not running and not stopped:
        progress.phase("Stopping the app")
        app.stop(progress)
