"""Detect whether a notebook runs headless."""

from __future__ import annotations

import sys

import psutil


def is_headless() -> bool:
    """Return whether this notebook runs without a person, as under papermill.

    A headless client sends every cell with ``allow_stdin=False``; a browser or an editor allows input.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return False
    allows_input = getattr(kernel, "_allow_stdin", None)
    if allows_input is not None:
        return not allows_input
    parent = psutil.Process().parent()
    return parent is not None and "papermill" in " ".join(parent.cmdline())
