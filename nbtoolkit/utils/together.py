"""Ask several things at the same time, and keep the answers to those that could be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbtoolkit.errors import AzureFailed, NotSignedIn
from nbtoolkit.progress import Progress
from nbtoolkit.utils.waiting import at_once


def together(questions: Mapping[str, Callable[[], Any]], progress: Progress) -> dict[str, Any]:
    """Return name → answer, or the :class:`AzureFailed` that came instead.

    Raises what means that nothing can be asked at all: nobody is signed in, Azure cannot be reached, the
    user cancelled.
    """
    answers: dict[str, Any] = {}
    for name, future in at_once(progress, questions).items():
        try:
            answers[name] = future.result()
        except NotSignedIn:
            raise
        except AzureFailed as error:
            if error.status is None:
                raise
            answers[name] = error
    return answers
