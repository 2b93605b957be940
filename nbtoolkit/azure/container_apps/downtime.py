"""Stop an app for a change, and never leave it stopped where the change fails or is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.errors import Cancelled, NbtoolkitError
from nbtoolkit.progress import Progress, UncancellableProgress

_BY_HAND = "scale(ScaleSettings(running=True)) or the portal starts it"


@contextmanager
def stopped(app: App, progress: Progress, meanwhile: Callable[[], None] | None = None) -> Generator[None]:
    """Stop the app, let the caller change it, and start it again, whatever happens between.

    ``meanwhile`` is called while Azure starts it. What fails is raised with the app's state in its message;
    an interrupt becomes :class:`Cancelled`.
    """
    sure = False  # that it is down, or will be: Azure goes on with a stop that nobody waits for
    try:
        app.stop(progress)
        sure = True
        yield
        sure = False
        app.start(progress, meanwhile)
    except KeyboardInterrupt as problem:
        state = _running_again(app, progress, sure=True)
        raise Cancelled(f"Interrupted. {state}", next_step="run the step again") from problem
    except NbtoolkitError as problem:
        state = _running_again(app, progress, sure=sure or isinstance(problem, Cancelled))
        problem.message = f"{problem.message} {state}"
        raise


def _running_again(app: App, progress: Progress, *, sure: bool) -> str:
    """Start the app where it is stopped, heeding no cancel; return how it stands in words."""
    name, shielded = app.provisioned.app, UncancellableProgress(progress)
    try:
        if not sure and not app.get().stopped:
            return f"The app {name} is not stopped."
        shielded.note(f"starting the app {name} again")
        app.start(shielded)
    except NbtoolkitError as problem:
        return f"The app {name} may be stopped, as starting it again failed ({problem.message}): {_BY_HAND}."
    except KeyboardInterrupt:
        return f"The app {name} may be stopped, as its start was interrupted too: {_BY_HAND}."
    return f"The app {name} was started again."
