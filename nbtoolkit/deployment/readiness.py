"""Wait until servers serve the published release, or raise if they will not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import ReleaseChanged, StoreError
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import Heartbeat, Pointer
from nbtoolkit.target import Target
from nbtoolkit.utils.threads import run_cancellable

_SUPERSEDED_POLL = 0.5
"""Minimum seconds between two checks whether another deploy has published since."""


class Unhealthy(Exception):
    """The release does not become healthy; the message is the reason."""


def current_release(target: Target, active: Pointer | None) -> Release | None:
    """Return the release that the running replicas serve, None if none serves or they differ.

    A replica whose engine restarts counts. A custom server has no heartbeat: it counts as serving if it is
    published and runs.
    """
    beats = [target.heartbeat(replica) for replica in target.replicas()]
    if beats and active and not any(beats):
        release = _read(target, active.release)
        return release if release and release.code.kind == "own" else None
    releases = {beat.release for beat in beats if beat and beat.phase in ("ready", "restarting")}
    if len(releases) != 1 or None in releases:
        return None
    return _read(target, str(releases.pop()))


def _read(target: Target, release_id: str) -> Release | None:
    try:
        return publisher.read_release(target.share, release_id)
    except StoreError:  # its file was deleted from the share: no rollback to it
        return None


def wait_until_served(
    target: Target,
    release: Release,
    pointer: Pointer,
    timeout: float,
    progress: Progress,
    *,
    restarted: bool = False,
    allow_downtime: bool = False,
    only: frozenset[str] | None = None,
) -> None:
    """Wait until every replica, or every one in ``only``, reports the release of this pointer.

    The adapters' sha256 are compared too. If a replica reports that the release needs a restart, the target
    is restarted, unless it was ``restarted`` already. Raises :class:`Unhealthy` with the reason.
    """
    progress.phase(f"Waiting until the server serves {release.id}")
    wanted = {adapter.name: adapter.sha256 for adapter in release.adapters}
    next_check = time.monotonic() + _SUPERSEDED_POLL
    state, refresh = "", False

    def is_served() -> bool:
        nonlocal next_check, state, refresh, restarted
        if only is None:
            run_cancellable(progress, target.check_alive)
        beats = run_cancellable(progress, partial(_beats, target, only, refresh=refresh))
        if beats and all(_serves(beat, release, pointer, wanted) for beat in beats.values()):
            if refresh or only or set(beats) == set(target.replicas(refresh=True)):
                return True
            refresh = True  # a replica without a heartbeat is starting, or one has just ended
            return is_served()
        for beat in beats.values():
            if beat and beat.failed and beat.failed.n == pointer.n:
                raise Unhealthy(beat.failed.error)
        if not restarted and any(beat and beat.pending == release.id for beat in beats.values()):
            restarted = True
            target.activate(release, restart=True, allow_downtime=allow_downtime, progress=progress)
            return is_served()
        state = _note_change(state, target.not_ready_reason() or _state(beats), progress)
        if time.monotonic() >= next_check:
            raise_if_superseded(target, pointer)
            next_check = time.monotonic() + max(_SUPERSEDED_POLL, 2 * target.poll)
        return False

    if not progress.wait_until(is_served, timeout=timeout, interval=target.poll):
        raise Unhealthy(f"it was not served within {timeout:g} s; {state}")


def wait_until_responding(target: Target, timeout: float, progress: Progress) -> None:
    """Wait until the custom server answers HTTP at all; its start commands may take minutes."""
    progress.phase("Waiting for an answer of your own server")
    state = ""

    def responds() -> bool:
        nonlocal state
        run_cancellable(progress, target.check_alive)
        if run_cancellable(progress, target.responds):
            return True
        state = _note_change(state, target.not_ready_reason(), progress)
        return False

    if not progress.wait_until(responds, timeout=timeout, interval=max(0.2, target.poll)):
        url = target.endpoint().url
        raise Unhealthy(f"nothing answered at {url} within {timeout:g} s{'; ' if state else ''}{state}")


def _note_change(state: str, current: str, progress: Progress) -> str:
    """Note the current state if it is known and differs from the last one; return the current one."""
    if current and current != state:
        progress.note(current)
    return current


def _beats(target: Target, only: frozenset[str] | None, *, refresh: bool) -> dict[str, Heartbeat | None]:
    names = target.replicas(refresh=refresh) if only is None else only
    return {replica: target.heartbeat(replica) for replica in names}


def _serves(beat: Heartbeat | None, release: Release, pointer: Pointer, wanted: Mapping[str, str]) -> bool:
    return (
        beat is not None
        and beat.phase == "ready"
        and (beat.n, beat.release) == (pointer.n, release.id)
        and dict(beat.adapters) == dict(wanted)
    )


def _state(beats: Mapping[str, Heartbeat | None]) -> str:
    if not beats:
        return "no replica runs yet"
    states = [
        f"{replica} is {beat.phase}{f': {beat.last_error}' if beat.last_error else ''}"
        if beat
        else f"{replica} has not sent a heartbeat yet"
        for replica, beat in beats.items()
    ]
    return "; ".join(states)


def raise_if_superseded(target: Target, pointer: Pointer) -> None:
    """Raise :class:`ReleaseChanged` if another deploy has published since."""
    now = publisher.active_pointer(target.share)
    if now and now.n > pointer.n:
        raise ReleaseChanged(
            f"{now.by} published {now.release} as number {now.n} before {pointer.release} was served.",
            next_step="look at what they deployed, then deploy again if yours is to replace it",
            by=now.by,
            release=now.release,
            n=now.n,
        )


def check_models_respond(endpoint: Endpoint, release: Release) -> None:
    """Request one token from every model of a release; raises if the engine cannot answer."""
    names = [adapter.name for adapter in release.adapters]
    for name in names or ([release.base.name] if release.base else []):
        endpoint.replay(name, [[1]])
