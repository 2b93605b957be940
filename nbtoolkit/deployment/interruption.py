"""Tell the truth about a deploy that was interrupted: what is public now, and what runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from nbtoolkit import publish
from nbtoolkit.errors import Cancelled
from nbtoolkit.serving.share import Pointer
from nbtoolkit.target import Target


@contextmanager
def told_truly(target: Target) -> Generator[Pointer | None]:
    """Yield the active pointer; a cancel or ■ inside becomes :class:`Cancelled` with how things then stand.

    The share and the target are asked, since an interrupt comes between any two steps.
    """
    seen = publish.active(target.share)
    try:
        yield seen
    except (Cancelled, KeyboardInterrupt) as stopped:
        what = stopped.message if isinstance(stopped, Cancelled) else "Interrupted."
        try:
            now, runs = publish.active(target.share), bool(target.replicas())
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
