"""Imports in threads of the server."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORT_IN_A_THREAD = """
import asyncio, gc, sys
from contextlib import nullcontext
from nbtoolkit.serving.threads import paused_gc, run_in_daemon

class ImportsWhenCollected:
    def __init__(self):
        self.cycle = self

    def __del__(self):
        sys.modules.pop("colorsys", None)
        import colorsys
        ImportsWhenCollected()

def work():
    gc.set_threshold(5, 1, 1)
    ImportsWhenCollected()
    with {context}():
        import email.mime.text, http.server, xml.dom.minidom
    gc.set_threshold(0)
    assert gc.isenabled()

asyncio.run(run_in_daemon(work, "import"))
"""


def _run(context: str) -> subprocess.CompletedProcess[str]:
    script = IMPORT_IN_A_THREAD.format(context=context)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


def test_an_import_survives_a_finalizer_that_imports() -> None:
    done = _run("paused_gc")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="CPython 3.12 fixed the import system")
def test_without_the_pause_the_import_fails() -> None:
    assert "KeyError" in _run("nullcontext").stderr
