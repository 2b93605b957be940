"""Whether somebody sits in front of the notebook, and what they or a later reader are shown."""

from __future__ import annotations

import sys
from typing import Any

from nbtoolkit.utils.notebook import is_headless
from nbtoolkit.widgets import html as page


def is_interactive() -> bool:
    """Tell whether this cell was sent by a frontend that could answer, not by papermill or a script."""
    ipython = sys.modules.get("IPython")  # where nobody imported it, there is no notebook
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None and not is_headless()


def mimebundle(shown: Any) -> dict[str, Any]:
    """Return the widget where somebody can use it, and text and HTML that a reopened notebook shows."""
    bundle: dict[str, Any] = {"text/plain": repr(shown), "text/html": page.represent(shown)}
    if is_interactive():
        bundle.update(shown.view.widget._repr_mimebundle_())
        bundle["text/plain"] = repr(shown)
    return bundle
