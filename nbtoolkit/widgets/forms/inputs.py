"""One ipywidget per settings field, with its help or its problem below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as w
import traitlets
from pydantic_core import PydanticUndefined

from nbtoolkit.widgets import html as page
from nbtoolkit.widgets.forms.fields import OMITTED, FieldKind, FieldSpec

_LABEL = "150px"
_WIDTH = "620px"
_INDENT = "160px"  # the label and its margin, so that help stands below the input


class SecretBox(w.Password):
    """A password input whose text the kernel neither echoes to other frontends nor keeps."""

    value = traitlets.CUnicode("").tag(sync=True, echo_update=False)


class Input:
    """The input of one field: builds the widget, calls ``on_typed(shown)`` and shows problems.

    All of it is written by callbacks only.
    """

    def __init__(
        self,
        spec: FieldSpec,
        shown: Any,
        on_typed: Callable[[Any], None],
        *,
        suggestions: Sequence[str] = (),
        is_set: bool = False,
    ) -> None:
        self.spec = spec
        self.touched = False
        self._on_typed = on_typed
        self._quiet = False
        self.widget = _widget(spec, shown, suggestions, is_set=is_set)
        self._note = w.HTML(
            page.help_line(spec.help), layout=w.Layout(margin=f"0 2px 2px {_INDENT}", width="auto")
        )
        self._note.layout.display = None if spec.help else "none"
        picker = (
            self._picker(suggestions)
            if spec.kind in (FieldKind.LINES, FieldKind.TABLE) and suggestions
            else []
        )
        self.row = w.VBox(
            [self.widget, *picker, self._note],
            layout=w.Layout(width="100%", max_width=_WIDTH, margin="0 0 4px"),
        )
        self.widget.observe(self._typed, names="value")

    def _picker(self, suggestions: Sequence[str]) -> list[w.Widget]:
        """Return a list whose entries are added to the lines when they are picked."""
        first = ("add one found in the workspace…", "")
        picker = w.Dropdown(
            options=[first, *((line, line) for line in suggestions)],
            value="",
            layout=w.Layout(width="auto", margin=f"2px 2px 2px {_INDENT}"),
        )
        picker.add_class("nbtoolkit-picker")

        def picked(change: dict[str, Any]) -> None:
            line = change["new"]
            if line and line not in self.widget.value.splitlines():
                self.widget.value = f"{self.widget.value.rstrip()}\n{line}".lstrip()
            picker.value = ""

        picker.observe(picked, names="value")
        return [picker]

    def _typed(self, change: dict[str, Any]) -> None:
        if self._quiet:
            return
        self.touched = True
        shown = change["new"]
        if self.spec.kind is FieldKind.SECRET:
            if not shown:
                return
            self.show("")  # the kernel has it now; the widget's state shall not
            self.widget.placeholder = "set, not shown"
        self._on_typed(shown)

    def show(self, shown: Any) -> None:
        """Put a value into the input without calling ``on_typed``."""
        self._quiet = True
        try:
            self.widget.value = shown
        finally:
            self._quiet = False

    def show_problem(self, problem: str | None) -> None:
        """Show what is wrong below the input, or the help again."""
        shown = page.problem_line(problem) if problem else page.help_line(self.spec.help)
        if self._note.value != shown:
            self._note.value = shown
            self._note.layout.display = None if shown else "none"


def _widget(spec: FieldSpec, shown: Any, suggestions: Sequence[str], *, is_set: bool) -> Any:
    common: dict[str, Any] = {
        "description": spec.title,
        "style": {"description_width": _LABEL},
        "layout": w.Layout(width="auto"),
    }
    if spec.kind is FieldKind.FLAG:
        return w.Checkbox(value=shown, indent=True, **common)
    if spec.kind is FieldKind.CHOICE:
        return w.Dropdown(options=[label for label, _ in spec.choices], value=shown, **common)
    if spec.kind is FieldKind.PICKS:
        labels = [label for label, _ in spec.choices]
        return w.SelectMultiple(options=labels, value=shown, rows=len(labels), **common)
    if spec.kind is FieldKind.SECRET:
        # on blur or Enter only: taking the text away while somebody types would eat letters
        placeholder = "set, not shown" if is_set else ""
        return SecretBox(placeholder=placeholder, continuous_update=False, **common)
    if spec.kind in (FieldKind.PARAGRAPH, FieldKind.LINES, FieldKind.TABLE):
        hint = {FieldKind.LINES: "one per line", FieldKind.TABLE: "name = value, one per line"}.get(
            spec.kind, ""
        )
        return w.Textarea(value=shown, rows=3, placeholder=hint, **common)
    placeholder = _placeholder(spec)
    if suggestions:
        return w.Combobox(
            value=shown, options=list(suggestions), ensure_option=False, placeholder=placeholder, **common
        )
    return w.Text(value=shown, placeholder=placeholder, **common)


def _placeholder(spec: FieldSpec) -> str:
    if spec.required or spec.default in (None, "", OMITTED, PydanticUndefined):
        return "default" if spec.optional else ""
    return f"default: {spec.show(spec.default)}"


def button(text: str, style: str, pressed: Callable[[w.Button], None]) -> w.Button:
    """Return a button; ``style`` is one of ipywidgets' button styles."""
    made = w.Button(description=text, button_style=style, layout=w.Layout(width="auto", min_width="96px"))
    made.on_click(pressed)
    return made
