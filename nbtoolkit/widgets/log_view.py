"""Display a target's log in a notebook: the last lines, and new lines while it is followed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any

from nbtoolkit.errors import Cancelled, NbtoolkitError
from nbtoolkit.progress import Progress
from nbtoolkit.target import Target
from nbtoolkit.utils.threads import start_daemon
from nbtoolkit.widgets.html import error_card, heading, html_of, muted_line
from nbtoolkit.widgets.notebook_display import NotebookDisplay

MAX_LINES = 500
"""Lines that are displayed at most."""


class LogView(NotebookDisplay):
    """Display the last ``tail`` lines of a target's log and follow it on request; headless, only the lines.

    Reading a log never wakes an app at zero replicas.
    """

    def __init__(self, target: Target, *, tail: int = 100) -> None:
        self.target = target
        self.tail = tail

    def lines(self) -> list[str]:
        """Return the last lines now."""
        return list(self.target.logs(tail=self.tail))

    def _build_view(self) -> Any:
        return _LogWidgets(self)

    def __repr__(self) -> str:
        try:
            return "\n".join(self.lines()) or "The log is empty."
        except NbtoolkitError as error:
            return str(error)

    def _repr_html_(self) -> str:
        return html_of(repr(self))


class _LogWidgets:
    """The widgets of a log; only the thread that reads the log writes them."""

    def __init__(self, log: LogView) -> None:
        import ipywidgets as w

        from nbtoolkit.widgets.forms.inputs import button

        self._log = log
        self._reader = Progress()
        self._text = w.HTML(layout=w.Layout(width="100%", flex="0 0 auto"))
        self._note = w.HTML()
        buttons = [
            button("Follow", "primary", partial(self._start, follow=True)),
            button("Stop following", "", lambda: self._reader.cancel()),
        ]
        title = w.HTML(heading(f"Log: {log.target}"))
        # column-reverse keeps the newest line in view without a script
        scroll_box = w.Box(
            [self._text],
            layout=w.Layout(flex_flow="column-reverse", max_height="420px", overflow="auto", width="100%"),
        )
        self.widget = w.VBox([title, w.HBox(buttons), self._note, scroll_box])
        self._start(follow=False)

    def _start(self, *, follow: bool) -> None:
        self._reader.cancel()
        self._reader = Progress()
        start_daemon(partial(self._read, follow, self._reader), name="log")

    def _read(self, follow: bool, progress: Progress) -> None:
        lines: deque[str] = deque(maxlen=MAX_LINES)
        try:
            self._show_note(progress, "Following; new lines appear below." if follow else "Reading…")
            for line in self._log.target.logs(follow=follow, tail=self._log.tail, progress=progress):
                lines.append(line)
                if follow:
                    self._draw(lines, progress)
            self._draw(lines, progress)
            self._show_note(progress, "The log ended." if follow else "")
        except Cancelled:
            if progress is self._reader:
                self._note.value = muted_line("Stopped following.")
        except Exception as error:  # noqa: BLE001 - shown here, because nothing reads a thread's error
            self._note.value = error_card(error)

    def _show_note(self, progress: Progress, text: str) -> None:
        progress.check()  # raises Cancelled if another thread reads the log now
        self._note.value = muted_line(text)

    def _draw(self, lines: Iterable[str], progress: Progress) -> None:
        progress.check()
        self._text.value = html_of("\n".join(lines) or "The log is empty.")
