"""The widgets of a chat: inputs and buttons are written by callbacks, the transcript by its painter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from nbtoolkit.endpoint.ingress_errors import HELD
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets.chat.html import transcript
from nbtoolkit.widgets.forms.inputs import Input, button
from nbtoolkit.widgets.forms.state import Draft

if TYPE_CHECKING:
    from nbtoolkit.widgets.chat.form import ChatForm

_PERIOD = 0.1  # seconds between redraws
_REST = 1.0  # seconds without a change after which the painter leaves
_AT_ONCE = 2.0  # seconds for which a cell waits for a server that may be ready


class _Told(Progress):
    """Show why the server does not answer yet."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def show(self, text: str) -> None:
        self._say(page.muted(text.strip()))


class Painter:
    """Call ``paint`` in one thread of its own after each change, at most ten times a second."""

    def __init__(self, paint: Callable[[], None]) -> None:
        self._paint = paint
        self._dirty = threading.Event()
        self._lock = threading.Lock()
        self._working = False

    def changed(self) -> None:
        """Ask for a redraw; the last change is always drawn."""
        with self._lock:
            self._dirty.set()
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="nbtoolkit-painter", daemon=True).start()

    def _work(self) -> None:
        pause = threading.Event()
        while True:
            if self._dirty.wait(_REST):
                self._dirty.clear()
                self._paint()
                pause.wait(_PERIOD)
                continue
            with self._lock:
                if not self._dirty.is_set():
                    self._working = False
                    return


class ChatView:
    """Build and update the widgets of one chat."""

    def __init__(self, form: ChatForm) -> None:
        self._form = form
        self._draft: Draft[Any] = Draft(form.settings)
        self.model = w.Dropdown(description="Model", style={"description_width": "initial"})
        self.compare = w.Checkbox(description="Compare with the base", indent=False)
        self.reload_button = button("Reload models", "", self._reload_pressed)
        self.prompt = w.Textarea(
            placeholder="Write to the model…", rows=3, layout=w.Layout(width="100%", margin="2px 0")
        )
        self.send_button = button("Send", "primary", self._send_pressed)
        self.stop_button = button("Stop", "", self._stop_pressed)
        self.clear_button = button("Clear", "", self._clear_pressed)
        self._problem = w.HTML(layout=w.Layout(width="auto"))
        self._turns = w.HTML(layout=w.Layout(width="100%", flex="0 0 auto"))
        self._actions = w.HBox([self.send_button, self.clear_button])
        self._fields = {spec.name: self._field(spec.name) for spec in self._draft.specs}
        self.widget = self._built()
        self.model.observe(self._changed, names="value")
        self.prompt.observe(self._changed, names="value")
        self._load()
        self._painter = Painter(self._paint)
        form.conversation.changed = self._painter.changed
        self._turns.value = transcript(form.conversation.turns)

    def _built(self) -> w.VBox:
        choice = w.HBox(
            [self.model, self.compare, self.reload_button],
            layout=w.Layout(align_items="center", flex_flow="row wrap", grid_gap="4px 16px"),
        )
        # from the bottom up, so that a growing answer stays in sight without a script
        scroll = w.Box(
            [self._turns],
            layout=w.Layout(flex_flow="column-reverse", max_height="420px", overflow="auto", width="100%"),
        )
        sampling = w.Accordion([w.VBox([field.row for field in self._fields.values()])])
        sampling.set_title(0, "Sampling")
        return w.VBox(
            [
                w.HTML(page.heading("Chat")),
                choice,
                scroll,
                self.prompt,
                self._actions,
                self._problem,
                sampling,
            ],
            layout=w.Layout(width="100%", max_width="960px", padding="4px 0 8px"),
        )

    def _field(self, name: str) -> Input:
        return Input(self._draft.spec(name), self._draft.shown(name), partial(self._typed, name))

    def _load(self) -> None:
        """Fill the list of models; where the server sleeps or starts, a worker does it once it is ready."""
        self.send_button.disabled = True
        worker = threading.Thread(target=self._fetch, name="nbtoolkit-models", daemon=True)
        worker.start()
        worker.join(_AT_ONCE)
        if worker.is_alive():
            self._say(page.muted(f"Waiting for {self._form.endpoint.url}: {HELD}."))

    # Below: the worker that asks for the models; it fills the empty list once.

    def _fetch(self) -> None:
        problem = ""
        try:
            served = self._form.wait(_Told(self._say)).models
        except NbtoolkitError as error:
            served, problem = [], page.failure(error)
        names = [model.id for model in served]
        self.model.options = names
        self.model.value = names[0] if names else None
        self.reload_button.layout.display = "none" if served else None
        self._refresh(problem)

    def _say(self, shown: str) -> None:
        self._problem.value = shown
        self._problem.layout.display = None if shown else "none"

    # Below: callbacks and the notebook's own cells.

    def _refresh(self, problem: str = "") -> None:
        checked = self._draft.check()
        for name, field in self._fields.items():
            field.show_problem(checked.problems.get(name))
        if checked.settings is not None:
            self._form.settings = checked.settings
        chosen = self.model.value
        has_base = bool(chosen and self._form.base_of(chosen))
        self.compare.layout.display = None if has_base else "none"
        self._say(problem)
        self.send_button.disabled = not (chosen and self.prompt.value.strip() and checked.settings)

    def _changed(self, _: object) -> None:
        self._refresh()

    def _typed(self, name: str, shown: Any) -> None:
        self._draft.put_shown(name, shown)
        self._refresh()

    def _reload_pressed(self, _: w.Button) -> None:
        self._load()

    def _send_pressed(self, _: w.Button) -> None:
        prompt, model = self.prompt.value.strip(), self.model.value
        if not (prompt and model) or self._form.conversation.open:
            return  # a press that was queued behind a running cell
        base = self._form.base_of(model) if self.compare.value else None
        models = [base, model] if base else [model]
        self.prompt.value = ""
        self._form.conversation.send(prompt, models, self._form.settings)

    def _stop_pressed(self, _: w.Button) -> None:
        self._form.conversation.stop()

    def _clear_pressed(self, _: w.Button) -> None:
        self._form.conversation.clear()

    # Below: the painter.

    def _paint(self) -> None:
        conversation = self._form.conversation
        self._turns.value = transcript(conversation.turns)
        first = self.stop_button if conversation.open else self.send_button
        if self._actions.children[0] is not first:
            self._actions.children = (first, self.clear_button)
