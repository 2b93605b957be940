"""A target's log in a notebook: its last lines, and new ones while they are followed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from nbtoolkit.errors import Cancelled, NbtoolkitError
from nbtoolkit.progress import Progress
from nbtoolkit.target import Target
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets.notebook_env import mimebundle

KEPT = 500
"""Lines that stay on screen."""


class LogView:
    """Show the last ``tail`` lines of a target's log and follow it on a press; headless, just the lines.

    Reading a log never wakes a server that sleeps.
    """

    def __init__(self, target: Target, *, tail: int = 100) -> None:
        self.target = target
        self.tail = tail
        self._view: Any = None

    def lines(self) -> list[str]:
        """Return the last lines as they are now."""
        return list(self.target.logs(tail=self.tail))

    @property
    def view(self) -> Any:
        """The widgets, built on first use."""
        if self._view is None:
            self._view = _Widgets(self)
        return self._view

    def __repr__(self) -> str:
        try:
            return "\n".join(self.lines()) or "The log is empty."
        except NbtoolkitError as error:
            return str(error)

    def _repr_html_(self) -> str:
        return page.represent(repr(self))

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return mimebundle(self)


class _Widgets:
    """The view's widgets; the worker writes what they show."""

    def __init__(self, log: LogView) -> None:
        import ipywidgets as w

        from nbtoolkit.widgets.forms.inputs import button

        self._log = log
        self._reading = Progress()
        self._text = w.HTML(layout=w.Layout(width="100%", flex="0 0 auto"))
        self._note = w.HTML()
        buttons = [
            button("Follow", "primary", lambda _: self._begin(follow=True)),
            button("Stop following", "", lambda _: self._reading.cancel()),
        ]
        title = w.HTML(page.heading(f"Log: {log.target}"))
        # from the bottom up, so that the newest line stays in sight without a script
        scroll = w.Box(
            [self._text],
            layout=w.Layout(flex_flow="column-reverse", max_height="420px", overflow="auto", width="100%"),
        )
        self.widget = w.VBox([title, w.HBox(buttons), self._note, scroll])
        self._begin(follow=False)

    def _begin(self, *, follow: bool) -> None:
        self._reading.cancel()
        self._reading = Progress()
        threading.Thread(
            target=self._read, args=(follow, self._reading), name="nbtoolkit-log", daemon=True
        ).start()

    def _read(self, follow: bool, progress: Progress) -> None:
        lines: deque[str] = deque(maxlen=KEPT)
        try:
            self._say(progress, "Following; new lines appear below." if follow else "Reading…")
            for line in self._log.target.logs(follow=follow, tail=self._log.tail, progress=progress):
                lines.append(line)
                if follow:
                    self._draw(lines, progress)
            self._draw(lines, progress)
            self._say(progress, "The log ended." if follow else "")
        except Cancelled:
            if progress is self._reading:
                self._note.value = page.muted("Not followed any more.")
        except (NbtoolkitError, OSError) as error:
            self._note.value = page.failure(error)

    def _say(self, progress: Progress, text: str) -> None:
        progress.check()  # another reader may have taken over
        self._note.value = page.muted(text)

    def _draw(self, lines: Iterable[str], progress: Progress) -> None:
        progress.check()
        self._text.value = page.represent("\n".join(lines) or "The log is empty.")
