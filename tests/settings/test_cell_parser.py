"""The cell parser: names that a cell binds, with line and kind."""

from __future__ import annotations

import pytest

from nbtoolkit.settings.cell_parser import parse_cell


@pytest.mark.parametrize(
    ("source", "bindings"),
    [
        ("a = 1\nb: int = -2\nc = {'x': [None, (1.5,)]}", "a 1 literal, b 2 literal, c 3 literal"),
        ('"""Text"""\nfrom pathlib import Path\na = Path("a") / "b"', "Path 2 definition, a 3 literal"),
        ("a = b = 4 * 1024  # KiB", "a 1 literal, b 1 literal"),
        ("# Parameters\na = float('inf')", "a 2 literal"),
        ("# only a comment", ""),
        ("a = f()\na, (b, *c) = g()", "a 1 computed, a 2 computed, b 2 computed, c 2 computed"),
        ("if x:\n    a = 1\nelse:\n    b = 2", "a 2 conditional, b 4 conditional"),
        ("for a in x:\n    b = a\nwith x as c: pass", "a 1 block, b 2 conditional, c 3 block"),
        ("try:\n    a = 1\nexcept E:\n    a = 2", "a 2 conditional, a 4 conditional"),
        (
            "def f():\n    a = 1\nclass C: b = 1\nimport os.path",
            "f 1 definition, C 3 definition, os 4 definition",
        ),
        ("a += 1\ndel a\nx.a = 1\nos.environ['b'] = 'c'", "a 1 computed, a 2 deleted"),
        ("get_ipython().run_cell_magic('time', '', 'a = 1')", "a 2 literal"),
        ("get_ipython().run_cell_magic('bash', '', 'a=1')", ""),
        ("a = 'open", "a 1 computed"),
    ],
)
def test_the_names_that_a_cell_binds(source: str, bindings: str) -> None:
    assert ", ".join(f"{b.name} {b.line} {b.kind}" for b in parse_cell(1, source).bindings) == bindings
