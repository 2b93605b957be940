"""Wait until servers do what was published, and notice when they will not."""

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

_LOOK_FOR_OTHERS = 0.5
"""Seconds between two looks whether another deploy took over, at least."""


class Unhealthy(Exception):
    """The release does not become healthy; the text says why."""


def current_release(target: Target, active: Pointer | None) -> Release | None:
    """Return the release that the running replicas serve, None where nothing serves or they differ.

    One whose engine is being restarted counts. The user's own server gives no heartbeat: where one was
    published and runs, it serves.
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
    except StoreError:  # its file was deleted from the share: it cannot be gone back to
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
    """Return once every replica, or of those ``among`` the named, reports the release under this pointer.

    Adapters' sha256 are compared too. A replica that says it needs a restart for it gets one, unless they
    are being ``restarted`` already.
    """
    progress.phase(f"Waiting until the server serves {release.id}")
    wanted = {adapter.name: adapter.sha256 for adapter in release.adapters}
    deadline = time.monotonic() + timeout
    look = time.monotonic() + _LOOK_FOR_OTHERS
    told, sure = "", False
    while True:
        if only is None:
            run_cancellable(progress, target.check_alive)
        beats = run_cancellable(progress, partial(_beats, target, only, sure=sure))
        if beats and all(_serves(beat, release, pointer, wanted) for beat in beats.values()):
            if sure or only or set(beats) == set(target.replicas(refresh=True)):
                return
            sure = True  # a replica is starting that gave no sign of life yet, or one has just gone
            continue
        for beat in beats.values():
            if beat and beat.failed and beat.failed.n == pointer.n:
                raise Unhealthy(beat.failed.error)
        if not restarted and any(beat and beat.pending == release.id for beat in beats.values()):
            restarted = True
            target.activate(release, restart=True, allow_downtime=allow_downtime, progress=progress)
            continue
        state = target.not_ready_reason() or _state(beats)
        if state != told:
            progress.note(state)
            told = state
        now = time.monotonic()
        if now >= look:
            raise_if_superseded(target, pointer)
            look = now + max(_LOOK_FOR_OTHERS, 2 * target.poll)
        if now >= deadline:
            raise Unhealthy(f"it was not served within {timeout:g} s; {state}")
        progress.sleep(target.poll)


def wait_until_responding(target: Target, timeout: float, progress: Progress) -> None:
    """Return once the user's own server answers HTTP at all; its start commands may take minutes."""
    progress.phase("Waiting for an answer of your own server")
    deadline = time.monotonic() + timeout
    told = ""
    while True:
        run_cancellable(progress, target.check_alive)
        if run_cancellable(progress, target.responds):
            return
        state = target.not_ready_reason()
        if state and state != told:
            progress.note(state)
            told = state
        if time.monotonic() >= deadline:
            where = target.endpoint().url
            raise Unhealthy(f"nothing answered at {where} within {timeout:g} s{'; ' if state else ''}{state}")
        progress.sleep(max(0.2, target.poll))


def _beats(target: Target, among: frozenset[str] | None, *, sure: bool) -> dict[str, Heartbeat | None]:
    names = target.replicas(refresh=sure) if among is None else among
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
    said = [
        f"{replica} is {beat.phase}{f': {beat.last_error}' if beat.last_error else ''}"
        if beat
        else f"{replica} gives no sign of life yet"
        for replica, beat in beats.items()
    ]
    return "; ".join(said)


def raise_if_superseded(target: Target, pointer: Pointer) -> None:
    """Raise :class:`ReleaseChanged` where another deploy published since."""
    now = publisher.active_pointer(target.share)
    if now and now.n > pointer.n:
        raise ReleaseChanged(
            f"{now.by} published {now.release} as number {now.n} before {pointer.release} was served.",
            next_step="look at what they deployed, then deploy again if yours shall replace it",
            by=now.by,
            release=now.release,
            n=now.n,
        )


def check_models_respond(endpoint: Endpoint, release: Release) -> None:
    """Ask every model of a release for one token, so that an engine that cannot answer is noticed."""
    names = [adapter.name for adapter in release.adapters]
    for name in names or ([release.base.name] if release.base else []):
        endpoint.replay(name, [[1]])
