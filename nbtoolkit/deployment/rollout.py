"""Make a staged release the one that serves, or put back what served before."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
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

NOT_OURS = "it has no /health like ours; ask it yourself whether your adapter answers"
_RESTORE_TIMEOUT = 300.0
"""Seconds for what served before to serve again, at least."""
_LOG_LINES = 20


@dataclass(frozen=True)
class RolloutOutcome:
    """How a release came to serve, its proof, and what served before."""

    how: RolloutMethod
    proof: Proof
    before: Release | None


class Rollout:
    """One release on its way to a target.

    ``seen`` is the active pointer when the deploy began: the race is lost if another one appeared since.
    With ``allow_downtime`` servers may be stopped before others start, where there is no room for both.
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
        self._target = target
        self._release = release
        self._seen = seen
        self._by = publisher.publisher_name(target.workspace.root)
        self._timeout = timeout
        self._allow_downtime = allow_downtime
        self._progress = progress
        self._before = run_cancellable(progress, lambda: current_release(target, seen))
        self._slept = self._before is None and run_cancellable(progress, target.is_asleep)
        self._how: RolloutMethod = run_cancellable(progress, self._way)

    @property
    def loads_base(self) -> bool:
        """Whether an engine must load a base model that none here is known to have loaded."""
        before, now = self._before, self._release
        if before is None or before.base is None or now.base is None:
            return now.base is not None
        same = (before.base.sha256, before.engine.quantization) == (now.base.sha256, now.engine.quantization)
        return not same

    def check(self) -> None:
        """Raise where the release cannot be brought to serve as is allowed; nothing was sent yet."""
        if self._how == "restart":
            self._target.check_restart(allow_downtime=self._allow_downtime, progress=self._progress)

    def run(self) -> RolloutOutcome:
        """Publish, activate, wait until every replica serves the release, and prove it.

        Raises :class:`ReleaseChanged` where another deploy won, :class:`DeployFailed` after what served
        before was put back, and :class:`Cancelled` or KeyboardInterrupt as they came.
        """
        prints = read_fingerprints(self._target.share, self._release)
        old = self._old_answers(prints)
        pointer = self._publish()
        try:
            return self._serve(pointer, prints, old)
        except (Cancelled, ReleaseChanged):
            raise
        except Exception as problem:  # whatever it was, the pointer must not stay on the bad one
            with suppress(OSError):  # the share does not answer: putting back asks it again
                raise_if_superseded(self._target, pointer)  # else it is the other deploy's matter by now
            raise self._restored(pointer, problem) from problem

    def _way(self) -> RolloutMethod:
        if not self._target.replicas():
            return "start"
        if self._release.code.kind == "own":
            return "restart"
        if self._before is None:
            return "start"
        if self._release.id == self._before.id:
            return "unchanged"
        return "restart" if self._release.needs_restart_from(self._before) else "hot swap"

    def _old_answers(self, prints: Mapping[str, Fingerprint]) -> PreviousAnswers | None:
        if self._how != "hot swap" or self._before is None:
            return None
        return PreviousAnswers(self._target.endpoint(), self._before, self._release, prints)

    def _publish(self) -> Pointer:
        """Return the pointer in force: the present one where it names this release and was not refused."""
        seen = self._seen
        if seen and seen.release == self._release.id and not self._refused(seen.n):
            return seen
        self._progress.phase(f"Publishing {self._release.id}")
        expected = seen.n if seen else 0
        return publisher.publish_release(self._target.share, self._release.id, expected=expected, by=self._by)

    def _refused(self, n: int) -> bool:
        """Tell whether a server refused this pointer: it will not try the same one again."""
        beats = (self._target.heartbeat(replica) for replica in self._target.replicas())
        return any(beat and beat.failed and beat.failed.n == n for beat in beats)

    def _serve(
        self, pointer: Pointer, prints: Mapping[str, Fingerprint], old: PreviousAnswers | None
    ) -> RolloutOutcome:
        how, target, release = self._how, self._target, self._release
        target.activate(
            release, restart=how == "restart", allow_downtime=self._allow_downtime, progress=self._progress
        )
        if release.code.kind == "own":
            wait_until_responding(target, self._timeout, self._progress)
            return RolloutOutcome(how, Proof(not_proven={"your own server": NOT_OURS}), self._before)
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
            raise Unhealthy(f"what answers is not the adapter: {proof}")
        return RolloutOutcome(how, proof, self._before)

    def _restored(self, pointer: Pointer, why: Exception) -> DeployFailed:
        """Put back what served before, or stop where nothing did; return the error that says so."""
        reason, progress, log = _reason(why), UncancellableProgress(self._progress), list[str]()
        try:
            log = self._last_log()
            progress.note(f"it failed: {reason}")
            now = self._put_back(pointer, progress)
        except KeyboardInterrupt as stopped:
            raise Cancelled(
                f"Release {self._release.id} did not become healthy: {reason}\n"
                "Interrupted while what served before was being put back.",
                next_step="rollback() to go back",
            ) from stopped
        except Exception as problem:  # noqa: BLE001  it must not hide why the release failed
            now = f"Putting back what served before failed too: {_reason(problem)}"
        lines = "".join(f"\n  {line}" for line in log)
        return DeployFailed(
            f"Release {self._release.id} did not become healthy: {reason}\n{now}\nLast log lines:{lines}",
            next_step=_next_step(why),
            release=self._release.id,
            reason=reason,
            log=log,
        )

    def _last_log(self) -> list[str]:
        try:
            return list(self._target.logs(tail=_LOG_LINES))
        except Exception as problem:  # noqa: BLE001  a missing log must not keep the old release from serving
            return [f"(the log cannot be read: {_reason(problem)})"]

    def _put_back(self, pointer: Pointer, progress: Progress) -> str:
        before, share = self._before, self._target.share
        replaced = before and before.code.kind == self._release.code.kind == "own"
        if before and before.id == self._release.id and not replaced:
            return "It served before too, and was left as it is."
        if before is None or replaced:
            return self._ended(pointer, replaced=bool(replaced), progress=progress)
        progress.phase(f"Putting back {before.id}")
        back = publisher.publish_release(share, before.id, expected=pointer.n, by=self._by)
        names = self._target.replicas(refresh=True)
        beats = {name: self._target.heartbeat(name) for name in names}
        still = frozenset(name for name, beat in beats.items() if beat and beat.release == before.id)
        self._target.activate(before, restart=not still, allow_downtime=True, progress=progress)
        timeout = max(_RESTORE_TIMEOUT, self._timeout)
        if before.code.kind == "own":
            wait_until_responding(self._target, timeout, progress)
            return f"Release {before.id} serves again."
        wait_until_served(
            self._target,
            before,
            back,
            timeout,
            progress,
            restarted=not still,
            allow_downtime=True,
            # new servers that failed stand beside the old ones: those have served all the time
            only=still if still and self._how == "restart" else None,
        )
        check_models_respond(self._target.endpoint(), before)
        return f"Release {before.id} serves again."

    def _ended(self, pointer: Pointer, *, replaced: bool, progress: Progress) -> str:
        """End what runs where nothing served before; what slept sleeps again."""
        last, target = self._seen, self._target
        if (
            self._release.code.kind == "own" and target.has_start_commands()
        ):  # it ran before, as others made it
            return (
                "The app, which nbtoolkit did not make, is left as it is, with the new files in inference/."
            )
        known = last is not None and last.release != self._release.id and not replaced
        if not (known and self._slept):
            target.stop(progress)
        if replaced:
            return "Its files had replaced the former ones in inference/, so nothing runs now."
        if last and known:  # a later start shall not meet the bad one
            publisher.publish_release(target.share, last.release, expected=pointer.n, by=self._by)
            if self._slept:
                target.scale_to_zero(progress)
                return f"Nothing runs, as before; the next request starts {last.release}."
        return "There is nothing to put back, so nothing runs now."


def _reason(problem: Exception) -> str:
    """Return why something failed, without the log lines and next steps of the error."""
    if isinstance(problem, NbtoolkitError):
        return str(getattr(problem, "reason", problem.message))
    return str(problem) if isinstance(problem, Unhealthy) else f"{type(problem).__name__}: {problem}"


def _next_step(problem: Exception) -> str:
    """Return what the target says to do about a server that does not start, where it knows that."""
    if isinstance(problem, ServerFailed) and hasattr(problem, "reason"):
        return problem.next_step
    return "correct what the reason and the log name, then deploy again"
