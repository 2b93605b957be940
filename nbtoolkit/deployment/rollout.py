"""Roll out a staged release, or restore the previous one if it fails."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

from nbtoolkit.deployment.fingerprint_proof import PreviousAnswers, Proof, prove, read_fingerprints
from nbtoolkit.deployment.readiness import (
    Unhealthy,
    check_models_respond,
    current_release,
    raise_if_superseded,
    wait_until_responding,
    wait_until_served,
)
from nbtoolkit.errors import Cancelled, DeployFailed, NbtoolkitError, ReleaseChanged, ServerFailed
from nbtoolkit.progress import Progress, UncancellableProgress
from nbtoolkit.releases import publisher
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import Pointer
from nbtoolkit.target import Target
from nbtoolkit.utils.threads import run_cancellable

RolloutMethod = Literal["unchanged", "hot swap", "start", "restart"]

NOT_OURS = "it has no /health like nbtoolkit's; check yourself that it serves your adapter"
_RESTORE_TIMEOUT = 300.0
"""Minimum seconds for the previous release to serve again."""
_LOG_LINES = 20


class Rollout:
    """The rollout of one release to a target.

    ``seen`` is the active pointer at the start of the deploy; a newer one means that another deploy won.
    With ``allow_downtime`` servers may be stopped before others start, if there is no GPU for both.
    """

    def __init__(
        self,
        target: Target,
        release: Release,
        *,
        seen: Pointer | None,
        timeout: float,
        allow_downtime: bool,
        progress: Progress,
    ) -> None:
        self.target = target
        self.release = release
        self._seen = seen
        self._by = publisher.publisher_name(target.workspace.root)
        self._timeout = timeout
        self._allow_downtime = allow_downtime
        self._progress = progress
        self._before = run_cancellable(progress, lambda: current_release(target, seen))
        self._slept = self._before is None and run_cancellable(progress, target.is_asleep)
        self.method: RolloutMethod = run_cancellable(progress, self._choose_method)

    @property
    def loads_base(self) -> bool:
        """Whether an engine must load another base model than the previous release."""
        before, now = self._before, self.release
        if before is None or before.base is None or now.base is None:
            return now.base is not None
        same = (before.base.sha256, before.engine.quantization) == (now.base.sha256, now.engine.quantization)
        return not same

    def check(self) -> None:
        """Raise, before anything is sent, if the release needs a restart that is not possible."""
        if self.method == "restart":
            if self._before and (reason := self.release.restart_reason(self._before)):
                self._progress.note(f"a restart is needed: {reason}")
            self.target.check_restart(allow_downtime=self._allow_downtime, progress=self._progress)

    def run(self) -> Proof:
        """Publish, activate, wait until every replica serves the release, and prove it.

        Raises :class:`ReleaseChanged` if another deploy won, :class:`DeployFailed` after the previous release
        was restored, and :class:`Cancelled` or KeyboardInterrupt unchanged.
        """
        prints = read_fingerprints(self.target.share, self.release)
        old = self._previous_answers(prints)
        pointer = self._publish()
        try:
            return self._serve(pointer, prints, old)
        except (Cancelled, ReleaseChanged):
            raise
        except Exception as problem:  # on any error, the pointer must not stay on the failed release
            with suppress(OSError):  # the share does not answer: restoring requests it again
                raise_if_superseded(self.target, pointer)  # else the other deploy is responsible
            raise self._restore(pointer, problem) from problem

    def _choose_method(self) -> RolloutMethod:
        if not self.target.replicas():
            return "start"
        if self.release.code.kind == "own":
            return "restart"
        if self._before is None:
            return "start"
        if self.release.id == self._before.id:
            return "unchanged"
        return "restart" if self.release.needs_restart_from(self._before) else "hot swap"

    def _previous_answers(self, prints: Mapping[str, Fingerprint]) -> PreviousAnswers | None:
        if self.method != "hot swap" or self._before is None:
            return None
        return PreviousAnswers(self.target.endpoint(), self._before, self.release, prints)

    def _publish(self) -> Pointer:
        """Publish the release and return its pointer; keeps the active one if it names this release."""
        seen = self._seen
        if seen and seen.release == self.release.id and not self._refused(seen.n):
            return seen
        self._progress.phase(f"Publishing {self.release.id}")
        expected = seen.n if seen else 0
        return publisher.publish_release(self.target.share, self.release.id, expected=expected, by=self._by)

    def _refused(self, n: int) -> bool:
        """Return whether a server refused this pointer: it does not retry the same one."""
        beats = (self.target.heartbeat(replica) for replica in self.target.replicas())
        return any(beat and beat.failed and beat.failed.n == n for beat in beats)

    def _serve(
        self, pointer: Pointer, prints: Mapping[str, Fingerprint], old: PreviousAnswers | None
    ) -> Proof:
        how, target, release = self.method, self.target, self.release
        target.activate(
            release, restart=how == "restart", allow_downtime=self._allow_downtime, progress=self._progress
        )
        if release.code.kind == "own":
            wait_until_responding(target, self._timeout, self._progress)
            return Proof(not_proven={"your own server": NOT_OURS})
        wait_until_served(
            target,
            release,
            pointer,
            self._timeout,
            self._progress,
            restarted=how == "restart",
            allow_downtime=self._allow_downtime,
        )
        self._progress.phase("Proving which adapter answers")
        endpoint = target.endpoint()
        proof = prove(endpoint, release, prints, old.get() if old else {}, self._progress)
        if proof.refuted:
            raise_if_superseded(target, pointer)
            raise Unhealthy(f"what answers is not this release: {proof}")
        return proof

    def _restore(self, pointer: Pointer, why: Exception) -> DeployFailed:
        """Restore the previous release, or stop without one; return the error that reports it."""
        reason, progress, log = _reason(why), UncancellableProgress(self._progress), list[str]()
        try:
            log = self._last_log()
            progress.note(f"it failed: {reason}")
            now = self._restore_previous(pointer, progress)
        except KeyboardInterrupt as stopped:
            raise Cancelled(
                f"Release {self.release.id} did not become healthy: {reason}\n"
                "Interrupted while the previous release was being restored.",
                next_step="rollback() to go back",
            ) from stopped
        except Exception as problem:  # noqa: BLE001  it must not hide why the release failed
            now = f"Restoring the previous release failed too: {_reason(problem)}"
        lines = "".join(f"\n  {line}" for line in log)
        return DeployFailed(
            f"Release {self.release.id} did not become healthy: {reason}\n{now}\nLast log lines:{lines}",
            next_step=_next_step(why),
            release=self.release.id,
            reason=reason,
            log=log,
        )

    def _last_log(self) -> list[str]:
        try:
            return list(self.target.logs(tail=_LOG_LINES))
        except Exception as problem:  # noqa: BLE001  a missing log must not prevent the restore
            return [f"(the log cannot be read: {_reason(problem)})"]

    def _restore_previous(self, pointer: Pointer, progress: Progress) -> str:
        before, share = self._before, self.target.share
        replaced = before and before.code.kind == self.release.code.kind == "own"
        if before and before.id == self.release.id and not replaced:
            return "It served before too, and was left unchanged."
        if before is None or replaced:
            return self._stop_or_sleep(pointer, replaced=bool(replaced), progress=progress)
        progress.phase(f"Restoring {before.id}")
        back = publisher.publish_release(share, before.id, expected=pointer.n, by=self._by)
        names = self.target.replicas(refresh=True)
        beats = {name: self.target.heartbeat(name) for name in names}
        still = frozenset(name for name, beat in beats.items() if beat and beat.release == before.id)
        self.target.activate(before, restart=not still, allow_downtime=True, progress=progress)
        timeout = max(_RESTORE_TIMEOUT, self._timeout)
        if before.code.kind == "own":
            wait_until_responding(self.target, timeout, progress)
            return f"Release {before.id} serves again."
        wait_until_served(
            self.target,
            before,
            back,
            timeout,
            progress,
            restarted=not still,
            allow_downtime=True,
            # failed new servers run next to the old ones, which have served all the time
            only=still if still and self.method == "restart" else None,
        )
        check_models_respond(self.target.endpoint(), before)
        return f"Release {before.id} serves again."

    def _stop_or_sleep(self, pointer: Pointer, *, replaced: bool, progress: Progress) -> str:
        """Stop the target if nothing served before; a sleeping one sleeps again."""
        last, target = self._seen, self.target
        if (
            self.release.code.kind == "own" and target.has_start_commands()
        ):  # it ran before, created by others
            return "The app, which nbtoolkit did not create, is unchanged, with the new files in inference/."
        known = last is not None and last.release != self.release.id and not replaced
        if not (known and self._slept):
            target.stop(progress)
        if replaced:
            return "Its files have replaced the previous ones in inference/, so nothing runs now."
        if last and known:  # a later start must not load the failed release
            publisher.publish_release(target.share, last.release, expected=pointer.n, by=self._by)
            if self._slept:
                target.scale_to_zero(progress)
                return f"Nothing runs, as before; the next request starts {last.release}."
        return "There is nothing to restore, so nothing runs now."


def _reason(problem: Exception) -> str:
    """Return the reason of an error, without its log lines and next step."""
    if isinstance(problem, NbtoolkitError):
        return getattr(problem, "reason", "") or problem.message
    return str(problem) if isinstance(problem, Unhealthy) else f"{type(problem).__name__}: {problem}"


def _next_step(problem: Exception) -> str:
    """Return the next step of an error whose reason is known, else a general one."""
    if isinstance(problem, ServerFailed) and problem.reason:
        return problem.next_step
    return "correct what the reason and the log name, then deploy again"
