"""The widgets of a teardown: a form whose button says whether a press deletes anything."""

from __future__ import annotations

from nbtoolkit.widgets.forms.view import FormView


class TeardownView(FormView):
    """Name the button after what a press does with the values as they are."""

    def refresh(self) -> None:
        """Validate again, and say what the button does."""
        super().refresh()
        deletes = bool(self._form.draft.shown("confirm_name").strip())
        self.run_button.description = "Delete" if deletes else "Show plan"
        self.run_button.button_style = "danger" if deletes else "primary"
