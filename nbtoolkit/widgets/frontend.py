"""Whether somebody sits in front of the notebook."""

from __future__ import annotations

import sys

from nbtoolkit.local.surroundings import is_headless


def is_interactive() -> bool:
    """Tell whether this cell was sent by a frontend that could answer, not by papermill or a script."""
    ipython = sys.modules.get("IPython")  # where nobody imported it, there is no notebook
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None and not is_headless()
