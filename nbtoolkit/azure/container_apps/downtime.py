"""Stop an app for a change and start it again, also if the change fails or is cancelled."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from nbtoolkit.azure.container_apps.app import ContainerApp, OnPoll
from nbtoolkit.errors import Cancelled, NbtoolkitError
from nbtoolkit.progress import Progress, UncancellableProgress

_NEXT_STEP = "scale(ScaleSettings(running=True)) or the portal starts it"


@contextmanager
def stopped(app: ContainerApp, progress: Progress, on_poll: OnPoll | None = None) -> Generator[None]:
    """Stop the app, run the caller's block, and start the app again in any case.

    ``on_poll`` is called while Azure starts it. An error gets the app's state added to its message, and an
    interrupt becomes :class:`Cancelled`.
    """
    is_down = False  # also True for a stop that Azure still works on
    try:
        app.stop(progress)
        is_down = True
        yield
        is_down = False
        app.start(progress, on_poll)
    except KeyboardInterrupt as interrupt:
        state = _start_again(app, progress, is_down=True)
        raise Cancelled(f"Interrupted. {state}", next_step="run the step again") from interrupt
    except NbtoolkitError as error:
        state = _start_again(app, progress, is_down=is_down or isinstance(error, Cancelled))
        error.message = f"{error.message} {state}"
        raise


def _start_again(app: ContainerApp, progress: Progress, *, is_down: bool) -> str:
    """Start the app if it is stopped, also after a cancel; return its state as a sentence."""
    name, uncancellable = app.provisioned.app, UncancellableProgress(progress)
    try:
        if not is_down and not app.get().stopped:
            return f"The app {name} is not stopped."
        uncancellable.note(f"starting the app {name} again")
        app.start(uncancellable)
    except NbtoolkitError as error:
        return f"The app {name} may be stopped: starting it again failed ({error.message}). {_NEXT_STEP}."
    except KeyboardInterrupt:
        return f"The app {name} may be stopped: its start was interrupted too. {_NEXT_STEP}."
    return f"The app {name} was started again."
