"""The widgets of a chat; callbacks write the inputs and buttons, the redraw thread the transcript."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait
from functools import partial
from typing import Any

import ipywidgets as w

from nbtoolkit.endpoint.http_client import HELD
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import start_daemon
from nbtoolkit.widgets.chat.golden_panel import GoldenPanel
from nbtoolkit.widgets.chat.session import ChatSession
from nbtoolkit.widgets.forms.inputs import Input, button
from nbtoolkit.widgets.forms.model import FormState
from nbtoolkit.widgets.html import error_card, heading, muted_line, transcript

_REDRAW_INTERVAL = 0.1  # seconds between two redraws
_REDRAW_IDLE = 1.0  # seconds without a change after which the redraw thread ends
_MODELS_WAIT = 2.0  # seconds for which the cell waits for the list of models


class _CallbackProgress(Progress):
    """Pass each line to a callback."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self._on_line = on_line

    def show(self, text: str) -> None:
        self._on_line(text.strip())


class Redrawer:
    """Call ``draw`` in one thread after each change, at most ten times a second."""

    def __init__(self, draw: Callable[[], None]) -> None:
        self._draw = draw
        self._dirty = threading.Event()
        self._lock = threading.Lock()
        self._running = False

    def request(self) -> None:
        """Request a redraw; the last change is always drawn."""
        with self._lock:
            self._dirty.set()
            if not self._running:
                self._running = True
                start_daemon(self._work, name="redraw")

    def _work(self) -> None:
        pause = threading.Event()
        while True:
            if self._dirty.wait(_REDRAW_IDLE):
                self._dirty.clear()
                self._draw()
                pause.wait(_REDRAW_INTERVAL)
                continue
            with self._lock:
                if not self._dirty.is_set():
                    self._running = False
                    return


class ChatView:
    """Build and update the widgets of one chat."""

    def __init__(self, session: ChatSession) -> None:
        self._session = session
        self._state: FormState[Any] = FormState(session.settings)
        self.model = w.Dropdown(description="Model", style={"description_width": "initial"})
        self.compare = w.Checkbox(description="Compare with the base", indent=False)
        self.reload_button = button("Reload models", "", self._load)
        self.prompt = w.Textarea(
            placeholder="Write to the model…", rows=3, layout=w.Layout(width="100%", margin="2px 0")
        )
        self.send_button = button("Send", "primary", self._send)
        self.stop_button = button("Stop", "", session.conversation.stop)
        self.clear_button = button("Clear", "", session.conversation.clear)
        self.golden = GoldenPanel(session, lambda: self.model.value)
        self._message = w.HTML(layout=w.Layout(width="auto"))
        self._turns = w.HTML(layout=w.Layout(width="100%", flex="0 0 auto"))
        self._actions = w.HBox([self.send_button, self.clear_button, self.golden.open_button])
        self._sampling = {
            spec.name: Input(
                spec, self._state.input_value(spec.name), partial(self._input_changed, spec.name)
            )
            for spec in self._state.specs
        }
        self.widget = self._build()
        self.model.observe(lambda _: self._refresh(), names="value")
        self.prompt.observe(lambda _: self._refresh(), names="value")
        self._load()
        self._redrawer = Redrawer(self._draw)
        session.conversation.changed = self._redrawer.request
        self._turns.value = transcript(session.conversation.turns)

    def _build(self) -> w.VBox:
        model_row = w.HBox(
            [self.model, self.compare, self.reload_button],
            layout=w.Layout(align_items="center", flex_flow="row wrap", grid_gap="4px 16px"),
        )
        # column-reverse keeps a growing answer in view without a script
        scroll_box = w.Box(
            [self._turns],
            layout=w.Layout(flex_flow="column-reverse", max_height="420px", overflow="auto", width="100%"),
        )
        sampling = w.Accordion([w.VBox([field.row for field in self._sampling.values()])])
        sampling.set_title(0, "Sampling")
        return w.VBox(
            [
                w.HTML(heading("Chat")),
                model_row,
                scroll_box,
                self.prompt,
                self._actions,
                self._message,
                self.golden.widget,
                sampling,
            ],
            layout=w.Layout(width="100%", max_width="960px", padding="4px 0 8px"),
        )

    def _load(self) -> None:
        """Fill the list of models; if the server is not ready, a worker thread fills it later."""
        self.send_button.disabled = True
        if wait([start_daemon(self._load_models, name="models")], _MODELS_WAIT).not_done:
            self._show_message(muted_line(f"Waiting for {self._session.endpoint.url}: {HELD}."))

    # Below: called by the worker thread that loads the models; it fills the empty list once.

    def _load_models(self) -> None:
        error_html = ""
        try:
            self._session.wait(_CallbackProgress(lambda line: self._show_message(muted_line(line))))
            names = [model.id for model in self._session.models]
        except NbtoolkitError as error:
            names, error_html = [], error_card(error)
        self.model.options = names
        self.model.value = names[0] if names else None
        self.reload_button.layout.display = "none" if names else None
        self._refresh(error_html)

    def _show_message(self, html: str) -> None:
        self._message.value = html
        self._message.layout.display = None if html else "none"

    # Below: called by callbacks and by the notebook's cells.

    def _refresh(self, message: str = "") -> None:
        validated = self._state.validate()
        for name, field in self._sampling.items():
            field.show_problem(validated.problems.get(name))
        if validated.settings is not None:
            self._session.settings = validated.settings
        model = self.model.value
        has_base = bool(model and self._session.base_of(model))
        self.compare.layout.display = None if has_base else "none"
        self._show_message(message)
        self.send_button.disabled = not (model and self.prompt.value.strip() and validated.settings)

    def _input_changed(self, name: str, entered: Any) -> None:
        self._state.set_input(name, entered)
        self._refresh()

    def _send(self) -> None:
        prompt, model = self.prompt.value.strip(), self.model.value
        if not (prompt and model) or self._session.conversation.open:
            return  # this press was queued while a cell was running
        base = self._session.base_of(model) if self.compare.value else None
        models = [base, model] if base else [model]
        self.prompt.value = ""
        self._session.conversation.send(prompt, models, self._session.settings)

    # Below: called by the redraw thread.

    def _draw(self) -> None:
        conversation = self._session.conversation
        self._turns.value = transcript(conversation.turns)
        first = self.stop_button if conversation.open else self.send_button
        if self._actions.children[0] is not first:
            self._actions.children = (first, self.clear_button, self.golden.open_button)
