"""One ipywidget per settings field, with its help text or error message below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as w
import traitlets

from nbtoolkit.widgets.forms.fields import OMITTED, FieldKind, FieldSpec
from nbtoolkit.widgets.html import help_line, problem_line

_LABEL_WIDTH = "150px"
_MAX_WIDTH = "620px"
_INDENT = "160px"  # label width and margin: aligns the help text with the input


class SecretBox(w.Password):
    """A password input whose text the kernel neither echoes to other frontends nor keeps."""

    value = traitlets.CUnicode("").tag(sync=True, echo_update=False)


class Input:
    """The input of one field: builds the widget, calls ``on_change(entered)`` and shows problems.

    Only callbacks write its widgets.
    """

    def __init__(
        self,
        spec: FieldSpec,
        value: Any,
        on_change: Callable[[Any], None],
        *,
        suggestions: Sequence[str] = (),
        is_set: bool = False,
    ) -> None:
        self.spec = spec
        self.touched = False
        self._on_change = on_change
        self._updating = False
        self.widget = _widget(spec, value, suggestions, is_set=is_set)
        self._note = w.HTML(
            help_line(spec.help), layout=w.Layout(margin=f"0 2px 2px {_INDENT}", width="auto")
        )
        self._note.layout.display = None if spec.help else "none"
        has_picker = spec.kind in (FieldKind.LINES, FieldKind.MAPPING) and suggestions
        self.row = w.VBox(
            [self.widget, *([self._picker(suggestions)] if has_picker else []), self._note],
            layout=w.Layout(width="100%", max_width=_MAX_WIDTH, margin="0 0 4px"),
        )
        self.widget.observe(self._changed, names="value")

    def _picker(self, suggestions: Sequence[str]) -> w.Dropdown:
        """Return a dropdown that appends the selected suggestion to the lines."""
        picker = w.Dropdown(
            options=[("add one found in the workspace…", ""), *((line, line) for line in suggestions)],
            value="",
            layout=w.Layout(width="auto", margin=f"2px 2px 2px {_INDENT}"),
        )
        picker.add_class("nbtoolkit-picker")

        def on_pick(change: dict[str, Any]) -> None:
            line = change["new"]
            if line and line not in self.widget.value.splitlines():
                self.widget.value = f"{self.widget.value.rstrip()}\n{line}".lstrip()
            picker.value = ""

        picker.observe(on_pick, names="value")
        return picker

    def _changed(self, change: dict[str, Any]) -> None:
        if self._updating:
            return
        self.touched = True
        entered = change["new"]
        if self.spec.kind is FieldKind.SECRET:
            if not entered:
                return
            self.set_value("")  # the form has the secret; the widget's state must not keep it
            self.widget.placeholder = "set, not shown"
        self._on_change(entered)

    def set_value(self, value: Any) -> None:
        """Set the value of the widget without calling ``on_change``."""
        self._updating = True
        try:
            self.widget.value = value
        finally:
            self._updating = False

    def show_problem(self, problem: str | None) -> None:
        """Show an error message below the input; None shows the help text."""
        html = problem_line(problem) if problem else help_line(self.spec.help)
        if self._note.value != html:
            self._note.value = html
            self._note.layout.display = None if html else "none"


def _widget(spec: FieldSpec, value: Any, suggestions: Sequence[str], *, is_set: bool) -> Any:
    common: dict[str, Any] = {
        "description": spec.title,
        "style": {"description_width": _LABEL_WIDTH},
        "layout": w.Layout(width="auto"),
    }
    if spec.kind is FieldKind.FLAG:
        return w.Checkbox(value=value, indent=True, **common)
    if spec.kind is FieldKind.CHOICE:
        return w.Dropdown(options=[label for label, _ in spec.choices], value=value, **common)
    if spec.kind is FieldKind.MULTI_CHOICE:
        labels = [label for label, _ in spec.choices]
        return w.SelectMultiple(options=labels, value=value, rows=len(labels), **common)
    if spec.kind is FieldKind.SECRET:
        # only on blur or Enter: clearing the text on every key press would drop letters
        placeholder = "set, not shown" if is_set else ""
        return SecretBox(placeholder=placeholder, continuous_update=False, **common)
    if spec.kind in (FieldKind.PARAGRAPH, FieldKind.LINES, FieldKind.MAPPING):
        hints = {FieldKind.LINES: "one per line", FieldKind.MAPPING: "name = value, one per line"}
        return w.Textarea(value=value, rows=3, placeholder=hints.get(spec.kind, ""), **common)
    placeholder = _placeholder(spec)
    if suggestions:
        return w.Combobox(
            value=value, options=list(suggestions), ensure_option=False, placeholder=placeholder, **common
        )
    return w.Text(value=value, placeholder=placeholder, **common)


def _placeholder(spec: FieldSpec) -> str:
    if spec.default in (None, "", OMITTED):
        return "default" if spec.optional else ""
    return f"default: {spec.to_input(spec.default)}"


def button(label: str, style: str, on_click: Callable[[], None]) -> w.Button:
    """Return a button; ``style`` is one of ipywidgets' button styles."""
    new_button = w.Button(
        description=label, button_style=style, layout=w.Layout(width="auto", min_width="96px")
    )
    new_button.on_click(lambda _: on_click())
    return new_button
