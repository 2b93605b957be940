"""Whether somebody sits in front of the notebook."""

from __future__ import annotations

import sys


def is_interactive() -> bool:
    """Tell whether this cell was sent by a frontend that could answer, not by papermill or a script.

    Frontends say with every cell whether they take input; headless runners say that they do not.
    """
    ipython = sys.modules.get("IPython")  # where nobody imported it, there is no notebook
    shell = None if ipython is None else ipython.get_ipython()
    return bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))
