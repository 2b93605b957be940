"""The panel of the chat form that turns the last answer into a golden prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ipywidgets as w

from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.golden.prompt_parser import InvalidPrompt, parse_prompt
from nbtoolkit.golden.prompts import KINDS
from nbtoolkit.widgets.chat.session import ChatSession
from nbtoolkit.widgets.forms.inputs import button
from nbtoolkit.widgets.html import error_card, muted_line, problem_line, text_line

_LABELS = {
    "contains": "contain",
    "not_contains": "not contain",
    "exact": "be exactly",
    "regex": "match the regular expression",
    "json_schema": "fit the JSON schema",
    "number": "end with the number",
}
_WIDE = w.Layout(width="100%", max_width="960px")


class GoldenPanel:
    """Show an answer as a golden prompt to edit, and append it to the file once it is confirmed."""

    def __init__(self, session: ChatSession, model: Callable[[], str | None]) -> None:
        self._session = session
        self._model = model
        self._line: dict[str, Any] = {}
        self.open_button = button("Golden prompt…", "", self.open)
        self.level = w.Dropdown(
            options=[("must", "must"), ("should (nice)", "nice")], description="The answer"
        )
        self.kind = w.Dropdown(options=[(_LABELS[kind], kind) for kind in KINDS])
        self.value = w.Textarea(rows=3, layout=_WIDE)
        self.file = w.Combobox(description="File", ensure_option=False, layout=_WIDE)
        self.add_button = button("Add to the file", "primary", self._add)
        self.cancel_button = button("Cancel", "", self.close)
        self.preview = w.HTML()
        self.message = w.HTML()
        self._form = w.VBox(
            [
                w.HBox([self.level, self.kind], layout=w.Layout(flex_flow="row wrap")),
                self.value,
                self.file,
                self.preview,
                w.HBox([self.add_button, self.cancel_button]),
            ]
        )
        self._form.layout.display = "none"
        self.widget = w.VBox([self._form, self.message])
        for one in (self.level, self.kind, self.value, self.file):
            one.observe(lambda _: self._refresh(), names="value")

    def open(self) -> None:
        """Fill the panel with the last answer of the selected model, and show it."""
        try:
            self._line = self._session.golden_line(self._model())
        except NbtoolkitError as error:
            self.message.value = error_card(error)
            return
        self.message.value = ""
        self.level.value, self.kind.value = "must", "contains"
        self.value.value = str(self._line.pop("must")[0]["contains"])
        self.file.options = self._session.golden_files()
        self.file.value = self.file.value or self._session.default_golden_file(self._model())
        self._form.layout.display = None
        self._refresh()

    def close(self) -> None:
        """Hide the panel."""
        self._form.layout.display = "none"

    @property
    def line(self) -> dict[str, Any]:
        """The golden prompt as edited; raises ``ValueError`` if the value is not JSON where it must be."""
        value: Any = self.value.value
        if self.kind.value == "json_schema":
            value = json.loads(value)
        return {**self._line, str(self.level.value): [{str(self.kind.value): value}]}

    def _refresh(self) -> None:
        problem = "" if self.file.value.strip() else "name the file"
        try:
            line = self.line
            parse_prompt(line)
            self.preview.value = text_line(json.dumps(line, ensure_ascii=False))
        except InvalidPrompt as error:
            problem = str(error)
        except ValueError as error:
            problem = f"this is not JSON: {error}"
        if problem:
            self.preview.value = problem_line(problem)
        self.add_button.disabled = bool(problem)

    def _add(self) -> None:
        try:
            self._session.add_golden(self.line, self.file.value.strip())
        except NbtoolkitError as error:
            self.message.value = error_card(error)
            return
        self.message.value = muted_line(f"Added to {self.file.value.strip()}; the next smoke test runs it.")
        self.close()
