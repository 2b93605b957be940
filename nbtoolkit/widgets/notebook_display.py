"""Display an object as widgets in a live notebook, and as text and HTML elsewhere."""

from __future__ import annotations

from typing import Any

from nbtoolkit.utils.notebook import is_headless, notebook_kernel
from nbtoolkit.widgets.html import html_of


def is_interactive() -> bool:
    """Return whether a frontend with a user runs this cell, and not papermill or a script."""
    return notebook_kernel() is not None and not is_headless()


class NotebookDisplay:
    """A mixin that displays ``view.widget`` in a live notebook; headless or reopened, text and HTML."""

    _view: Any = None

    @property
    def view(self) -> Any:
        """The widgets, built on first use."""
        if self._view is None:
            self._view = self._build_view()
        return self._view

    def _build_view(self) -> Any:
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        publish_display_data(self._repr_mimebundle_())

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": html_of(self)}
        if is_interactive():
            bundle.update(self.view.widget._repr_mimebundle_())
            bundle["text/plain"] = repr(self)
        return bundle
