"""Ask several things at the same time, and keep the answers to those that could be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from nbtoolkit.errors import AzureFailed, NotSignedIn
from nbtoolkit.progress import Progress


def together(questions: Mapping[str, Callable[[], Any]], progress: Progress) -> dict[str, Any]:
    """Return name → answer, or the :class:`AzureFailed` that came instead.

    Raises what means that nothing can be asked at all: nobody is signed in, Azure cannot be reached, the
    user cancelled.
    """
    if not questions:
        return {}
    with ThreadPoolExecutor(len(questions), thread_name_prefix="nbtoolkit-preflight") as pool:
        futures = {name: pool.submit(ask) for name, ask in questions.items()}
        waiting = set(futures.values())
        try:
            while waiting:
                _, waiting = wait(waiting, timeout=0.25)
                progress.check()
        finally:
            for future in waiting:
                future.cancel()
    answers: dict[str, Any] = {}
    for name, future in futures.items():
        try:
            answers[name] = future.result()
        except NotSignedIn:
            raise
        except AzureFailed as error:
            if error.__dict__.get("status") is None:
                raise
            answers[name] = error
    return answers
