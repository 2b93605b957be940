"""Check whether a changed app gets machines for its new revision, and whether that becomes ready."""

from __future__ import annotations

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.resource_id import QUOTA_PAGE
from nbtoolkit.azure.startup.activation import Activation
from nbtoolkit.azure.startup.timeline import phase_of
from nbtoolkit.errors import QuotaShort
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.utils.threads import run_cancellable


def check_rollout_capacity(
    settings: ProvisionSettings,
    existing: ExistingResources,
    profile: str,
    cloud: Cloud,
    progress: Progress,
) -> tuple[bool, list[str]]:
    """Return whether the app stops for a change that makes a new revision, and why it cannot start.

    A few requests; none without a GPU. For a change of the workload profile the preflight's quota check is
    enough.
    """
    state = AppState(existing.app or {})
    if state.workload_profile != profile or not GpuProfile.by_name(settings.gpu).has_gpu:
        return False, []
    app = ContainerApp(cloud, existing.names)
    activation = run_cancellable(progress, lambda: Activation(app, AppPoller(app), state))
    try:
        method = activation.choose_method(
            restart=True, allow_downtime=settings.allow_downtime, progress=progress
        )
    except QuotaShort:
        method = None
    if method not in (None, "restart"):
        return method == "downtime", []
    headroom = run_cancellable(progress, activation.headroom)
    # a revision that never became ready holds the machines that the new one needs
    if method == "restart" and (headroom.sufficient is not False or settings.allow_downtime):
        return headroom.sufficient is False, []
    return False, [
        f"The change of the app {state.name} starts a new revision, and there is no GPU for it next to "
        f"the running one ({headroom.text}): set allow_downtime, which stops the app first, so that "
        f"nothing answers for some minutes; or raise the quota: {QUOTA_PAGE}"
    ]


def wait_for_revision(app: ContainerApp, progress: Progress, timeout: float) -> str:
    """Wait for the newest revision to serve; return why it does not after ``timeout`` seconds, else ""."""
    progress.phase("Waiting for the new revision")
    poller, note = AppPoller(app), ""

    def is_ready() -> bool:
        nonlocal note
        state = run_cancellable(progress, app.get)
        if state.stopped or state.latest_revision == state.latest_ready_revision:
            note = ""
            return True
        replicas = run_cancellable(progress, lambda: poller.snapshot(fresh=True)).latest_replicas
        phases = [" ".join(filter(None, phase_of(one, None))) for one in replicas]
        reason = "; ".join(dict.fromkeys(phases)) or "it has no running replica yet"
        progress.note(reason)
        serving = f"{state.latest_ready_revision} serves" if state.latest_ready_revision else "nothing serves"
        note = f"The new revision {state.latest_revision} is not ready yet ({reason}); {serving} meanwhile."
        return False

    progress.wait_until(is_ready, timeout=timeout, interval=app.cloud.poll_interval)
    return note
