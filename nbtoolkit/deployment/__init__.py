"""Deploy a release to a target, prove that it is served, and roll back."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nbtoolkit.deployment.fingerprint_proof import Proof
from nbtoolkit.deployment.live_proof import LiveProof, ProveSettings, prove
from nbtoolkit.deployment.resolve_release import resolve_release
from nbtoolkit.deployment.rollout import Rollout, RolloutMethod
from nbtoolkit.deployment.settings import DeploySettings
from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import Cancelled, InvalidSettings
from nbtoolkit.filestore import FileStore
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.releases import publisher
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import OWN, Pointer
from nbtoolkit.sync import SyncResult
from nbtoolkit.target import Target
from nbtoolkit.target_factory import TargetName, resolve_target
from nbtoolkit.utils.display import FactTable
from nbtoolkit.utils.threads import run_cancellable

_STATE_TIMEOUT = 1.5
"""Seconds that a cancel waits for the state of share and target."""

__all__ = [
    "DeploySettings",
    "Deployment",
    "LiveProof",
    "Proof",
    "ProveSettings",
    "deploy",
    "prove",
    "rollback",
]


@dataclass(frozen=True, repr=False)
class Deployment(FactTable):
    """A served release: its endpoint, its proof, the files sent, and how to roll back.

    ``seconds`` is the time from the call to the proof; ``previous`` the id of the previous release.
    """

    release: Release
    endpoint: Endpoint
    proof: Proof
    target: Target = field(repr=False)
    sync: SyncResult
    seconds: float
    how: RolloutMethod
    previous: str | None = None
    phases: str = ""
    """The phases of the startup with their seconds, if the target reports them."""

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of the table, as label and text."""
        release, has_key = self.release, bool(self.endpoint.key.get_secret_value())
        rows = [
            ("endpoint", self.endpoint.url),
            *([("key", f"endpoint.key; kept in {self.target.key_location}")] if has_key else []),
            ("release", f"{release.id}, by {self.how}, {self.seconds:.1f} s"),
            *([("start", self.phases)] if self.phases else []),
        ]
        if release.base:
            rows.append(("base", release.base.name))
        rows += [
            (f"adapter {one.name}", f"sha256 {one.sha256[:16]}…, rank {one.rank}") for one in release.adapters
        ]
        if release.override_reason:
            rows.append(("override", release.override_reason))
        call = "rollback()" if self.target.name == "local" else "rollback(target=deployment.target)"
        back = (
            f"{call} restores {self.previous}"
            if self.previous
            else "nothing was deployed before this release"
        )
        return [
            *rows,
            ("sent", str(self.sync)),
            ("proof", str(self.proof)),
            ("go back", back),
            ("stop", "deployment.target.stop()"),
        ]


def deploy(
    settings: DeploySettings, *, target: Target | None = None, progress: Progress | None = None
) -> Deployment:
    """Deploy the release of the settings and return once its adapters are proven to be served.

    Requires a green smoke report for exactly these adapter files. Only missing files are sent; if only
    adapters changed, running servers hot-swap them. A second deploy sends and publishes nothing, but repeats
    the proof; a custom server (``server="own"``) is always restarted, since the files that it has read are
    not known. Without ``target`` the settings choose this machine or Azure.

    Raises :class:`SmokeTestFailed`, :class:`QuotaShort` if there is no GPU for a second server and no
    downtime is allowed, :class:`ReleaseChanged` if another deploy published first, :class:`DeployFailed`
    after the previous release was restored, :class:`Busy`, :class:`Cancelled`, and the errors of reading
    base and adapters.

    >>> deployment = deploy(DeploySettings(adapters=["adapters/tone"], base="models/base"))
    >>> deployment.endpoint.chat("Hello", stream=False)
    'tone ...'
    >>> deployment.target.stop()
    """
    start = time.monotonic()
    progress = progress or SILENT()
    target = resolve_target(target or settings.target, keep=settings.keep)
    with target.workspace.lock("deploy", target=target.name), _report_state_on_cancel(target) as seen:
        resolved = resolve_release(settings, target, progress)
        target.provision(progress, custom_server=settings.server == "own")
        rollout = Rollout(
            target,
            resolved.release,
            seen=seen,
            timeout=settings.timeout,
            allow_downtime=settings.allow_downtime,
            progress=progress,
        )
        if resolved.base and rollout.loads_base:
            target.check_memory(
                resolved.base,
                settings.quantization,
                override=settings.override_reason is not None,
                progress=progress,
            )
        rollout.check()
        sent = publisher.stage_release(
            target.share,
            resolved.release,
            resolved.adapters,
            resolved.code,
            resolved.reports,
            progress,
            base=resolved.base,
            wheels=resolved.wheels.files if resolved.wheels else None,
        )
        return _deployed(rollout, sent, start)


def rollback(
    release_id: str | None = None,
    *,
    target: Target | TargetName | None = None,
    allow_downtime: bool = False,
    timeout: float = 1800,
    progress: Progress | None = None,
) -> Deployment:
    """Serve an earlier release again, by default the previous one; no files are sent.

    ``target`` defaults to this machine. A second call goes back further. Raises :class:`InvalidSettings`
    with the history if there is no such release, and the errors of :func:`deploy`.
    """
    start = time.monotonic()
    progress = progress or SILENT()
    target = resolve_target(target)
    with target.workspace.lock("rollback", target=target.name), _report_state_on_cancel(target):
        progress.phase("Reading the history")
        history = publisher.pointer_history(target.share)
        chosen = _earlier(history, release_id)
        release = publisher.read_release(target.share, chosen)
        _check_complete(target.share, release, history)
        rollout = Rollout(
            target,
            release,
            seen=history[-1],
            timeout=timeout,
            allow_downtime=allow_downtime,
            progress=progress,
        )
        rollout.check()
        return _deployed(rollout, SyncResult(), start)


def _deployed(rollout: Rollout, sent: SyncResult, start: float) -> Deployment:
    proof = rollout.run()
    target, release = rollout.target, rollout.release
    return Deployment(
        release=release,
        endpoint=target.endpoint(),
        proof=proof,
        target=target,
        sync=sent,
        seconds=time.monotonic() - start,
        how=rollout.method,
        previous=_before(publisher.pointer_history(target.share), release.id),
        phases=target.startup_phases(),
    )


@contextmanager
def _report_state_on_cancel(target: Target) -> Generator[Pointer | None]:
    """Yield the active pointer; on a cancel or an interrupt raise :class:`Cancelled` with the current state.

    The state is read from share and target, since an interrupt can happen between any two steps.
    """
    seen = publisher.active_pointer(target.share)
    try:
        yield seen
    except (Cancelled, KeyboardInterrupt) as stopped:
        cause = stopped.message if isinstance(stopped, Cancelled) else "Interrupted."
        try:
            now, runs = run_cancellable(
                None,
                lambda: (publisher.active_pointer(target.share), bool(target.replicas())),
                timeout=_STATE_TIMEOUT,
            )
        except Exception as problem:  # noqa: BLE001  the cancel itself must be reported
            raise Cancelled(
                f"{cause} The active release cannot be read: {type(problem).__name__}: {problem}",
                next_step="look at target.status(); then deploy again to finish, or rollback() to go back",
            ) from stopped
        raise _cancelled(cause, seen, now, runs) from stopped


def _cancelled(cause: str, seen: Pointer | None, now: Pointer | None, runs: bool) -> Cancelled:
    if now is None or (seen and now.n == seen.n):
        then = f"the server still serves {seen.release}" if seen else "a server runs"
        return Cancelled(
            f"{cause} Nothing was published; {then if runs else 'no server runs'}.",
            next_step="run the step again; files that were sent are not sent again",
        )
    again = " again" if seen and now.release == seen.release else ""
    then = "the server will swap to it, unless it needs a restart"
    return Cancelled(
        f"{cause} {now.release} was published{again} by {now.by}; {then if runs else 'no server runs'}.",
        next_step="deploy again to finish, rollback() to go back, or target.stop() to end the server",
        release=now.release,
    )


def _before(history: list[Pointer], release_id: str) -> str | None:
    """Return the release published before the first publication of a release."""
    ids = [pointer.release for pointer in history]
    first = ids.index(release_id) if release_id in ids else len(ids)
    return ids[first - 1] if first else None


def _earlier(history: list[Pointer], release_id: str | None) -> str:
    """Return the release to roll back to."""
    if release_id is None and history:
        release_id = _before(history, history[-1].release)
        reason = "nothing was deployed before the current release"
    else:
        reason = (
            f"there is no release {release_id!r} in the history" if history else "nothing was deployed yet"
        )
    if release_id and release_id in {pointer.release for pointer in history}:
        return release_id
    lines = "".join(
        f"\n  {pointer.n}: {pointer.release}, {pointer.at:%Y-%m-%d %H:%M} UTC, by {pointer.by}"
        for pointer in history
    )
    raise InvalidSettings(
        f"Cannot roll back: {reason}. Deployed so far:{lines or ' nothing'}",
        next_step="name one of these: rollback('r-...')" if history else "deploy() first",
    )


def _check_complete(store: FileStore, release: Release, history: list[Pointer]) -> None:
    """Raise :class:`InvalidSettings` if files of a release are no longer on the share."""
    if release.code.kind == "own":
        newest = next(
            (
                p.release
                for p in reversed(history)
                if publisher.read_release(store, p.release).code.kind == "own"
            ),
            None,
        )
        if newest != release.id:
            raise InvalidSettings(
                f"{release.id} was your own server, but {OWN}/ on the share now holds newer files.",
                next_step="restore the files in your workspace and deploy with server='own'",
            )
        return
    gone = [adapter.name for adapter in release.adapters if not store.list(adapter.path)]
    if gone:
        raise InvalidSettings(
            f"The files of {', '.join(gone)} in {release.id} are no longer on the share.",
            next_step="deploy the adapter's folder again",
        )
