"""Detect a notebook, and one that runs without a user."""

from __future__ import annotations

import sys
from typing import Any


def notebook_kernel() -> Any:
    """Return the kernel that runs this process; None outside a notebook, where IPython is not imported."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None)


def is_headless() -> bool:
    """Return whether this notebook runs without a person, as under papermill.

    A headless client sends every cell with ``allow_stdin=False``; a browser or an editor allows input.
    """
    kernel = notebook_kernel()
    if kernel is None:
        return False
    allows_input = getattr(kernel, "_allow_stdin", None)
    if allows_input is not None:
        return not allows_input
    import psutil

    parent = psutil.Process().parent()
    return parent is not None and "papermill" in " ".join(parent.cmdline())
