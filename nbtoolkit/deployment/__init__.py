"""Deploy: bring a release to a target, prove what answers, and be able to go back."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from nbtoolkit.deployment.fingerprint_proof import Proof
from nbtoolkit.deployment.resolve_release import resolve_release
from nbtoolkit.deployment.result import Deployment
from nbtoolkit.deployment.rollout import Rollout, RolloutOutcome
from nbtoolkit.deployment.settings import DeploySettings
from nbtoolkit.errors import Cancelled, InvalidSettings
from nbtoolkit.filestore import FileStore
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.releases import publisher
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import OWN, Pointer
from nbtoolkit.sync import SyncResult
from nbtoolkit.target import Target
from nbtoolkit.target_factory import TargetName, resolve_target
from nbtoolkit.utils.threads import run_cancellable

_LAST_WORD = 1.5
"""Seconds that a cancel waits for the word of share and target."""

__all__ = ["DeploySettings", "Deployment", "Proof", "deploy", "rollback"]


def deploy(
    settings: DeploySettings, *, target: Target | None = None, progress: Progress | None = None
) -> Deployment:
    """Serve what the settings say and return once it provably answers.

    Needs a green smoke report for the adapters' very bytes. Only what is missing is sent; where only
    adapters changed, running servers swap them without a restart. The second time nothing is sent or
    published, and the proof is made again; your own server (``server="own"``) is started anew even then, as
    what it read at its start cannot be known. Without ``target`` the settings choose this machine or Azure.

    Raises :class:`SmokeTestFailed`, :class:`QuotaShort` where a new server has no room beside the old one and
    no downtime is allowed, :class:`ReleaseChanged` where another deploy was faster, :class:`DeployFailed`
    after what served before was put back, :class:`Busy`, :class:`Cancelled`, and what reading base and
    adapters raises.
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
        return _deployed(target, resolved.release, rollout.run(), sent, start)


def rollback(
    release_id: str | None = None,
    *,
    target: Target | TargetName | None = None,
    allow_downtime: bool = False,
    timeout: float = 1800,
    progress: Progress | None = None,
) -> Deployment:
    """Serve an earlier release again, by default the one before the present; nothing is sent.

    ``target`` is this machine by default. Calling it again goes further back. Raises
    :class:`InvalidSettings` listing the history where there is no such release, and what :func:`deploy`
    raises.
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
        return _deployed(target, release, rollout.run(), SyncResult(), start)


def _deployed(
    target: Target, release: Release, outcome: RolloutOutcome, sent: SyncResult, start: float
) -> Deployment:
    endpoint = target.endpoint()
    return Deployment(
        release=release,
        endpoint=endpoint,
        proof=outcome.proof,
        target=target,
        sync=sent,
        seconds=time.monotonic() - start,
        how=outcome.how,
        previous=_before(publisher.pointer_history(target.share), release.id),
        phases=target.startup_phases(),
    )


@contextmanager
def _report_state_on_cancel(target: Target) -> Generator[Pointer | None]:
    """Yield the active pointer; a cancel or ■ inside becomes :class:`Cancelled` with how things then stand.

    The share and the target are asked, since an interrupt comes between any two steps.
    """
    seen = publisher.active_pointer(target.share)
    try:
        yield seen
    except (Cancelled, KeyboardInterrupt) as stopped:
        what = stopped.message if isinstance(stopped, Cancelled) else "Interrupted."
        try:
            now, runs = run_cancellable(
                None,
                lambda: (publisher.active_pointer(target.share), bool(target.replicas())),
                timeout=_LAST_WORD,
            )
        except Exception as problem:  # noqa: BLE001  the user's own stop is what must be reported
            raise Cancelled(
                f"{what} What is public now cannot be read: {type(problem).__name__}: {problem}",
                next_step="look at target.status(); then deploy again to finish, or rollback() to go back",
            ) from stopped
        raise _cancelled(what, seen, now, runs) from stopped


def _cancelled(what: str, seen: Pointer | None, now: Pointer | None, runs: bool) -> Cancelled:
    if now is None or (seen and now.n == seen.n):
        goes_on = f"the server goes on with {seen.release}" if seen else "a server runs"
        return Cancelled(
            f"{what} Nothing was published; {goes_on if runs else 'no server runs'}.",
            next_step="run the step again; what was sent is not sent again",
        )
    again = " again" if seen and now.release == seen.release else ""
    goes_on = "the server goes on to it by itself, unless that takes a restart"
    return Cancelled(
        f"{what} {now.release} was published{again} by {now.by}; {goes_on if runs else 'no server runs'}.",
        next_step="deploy again to finish, rollback() to go back, or target.stop() to end the server",
        release=now.release,
    )


def _before(history: list[Pointer], release_id: str) -> str | None:
    """Return what was published before a release was for the first time."""
    ids = [pointer.release for pointer in history]
    first = ids.index(release_id) if release_id in ids else len(ids)
    return ids[first - 1] if first else None


def _earlier(history: list[Pointer], release_id: str | None) -> str:
    """Return the release to go back to."""
    if release_id is None and history:
        release_id = _before(history, history[-1].release)
        reason = "nothing was deployed before the present release"
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
        f"Cannot go back: {reason}. Deployed so far:{lines or ' nothing'}",
        next_step="name one of these: rollback('r-...')" if history else "deploy() first",
    )


def _check_complete(store: FileStore, release: Release, history: list[Pointer]) -> None:
    """Refuse a release whose bytes are no longer on the share."""
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
                f"{release.id} was your own server, and {OWN}/ on the share holds newer files by now.",
                next_step="restore the files in your workspace and deploy with server='own'",
            )
        return
    gone = [adapter.name for adapter in release.adapters if not store.list(adapter.path)]
    if gone:
        raise InvalidSettings(
            f"The files of {', '.join(gone)} in {release.id} are no longer on the share.",
            next_step="deploy the adapter's folder again",
        )
