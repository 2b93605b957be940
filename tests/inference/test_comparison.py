"""Comparison: requests, table, errors and cancel."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from nbtoolkit.errors import Cancelled, InvalidSettings, RequestRefused
from nbtoolkit.inference.comparison import Comparison, compare
from nbtoolkit.progress import Progress
from tests.support.fake_endpoint import BASE, FakeEndpoint, refused

CANARY = "<img src=x onerror=alert(1)>"


def test_comparison_is_greedy_and_lists_the_base_first() -> None:
    endpoint = FakeEndpoint({"tone": ["joy"], BASE: ["Well,\nwell"]})
    found = compare(endpoint, ["a", "b"])  # type: ignore[arg-type]
    assert found == Comparison((BASE, "tone"), ("a", "b"), (("Well,\nwell", "joy"),) * 2)
    assert found.of("tone") == ("joy", "joy")
    assert found.different == 2
    assert all(request["temperature"] == 0 and request["max_tokens"] == 64 for request in endpoint.requests)


def test_models_and_sampling_can_be_chosen() -> None:
    endpoint = FakeEndpoint({"tone": ["joy"], BASE: ["Well"]})
    assert compare(endpoint, ["a"], ["tone"], max_tokens=4).models == ("tone",)  # type: ignore[arg-type]
    assert [request["max_tokens"] for request in endpoint.requests] == [4]


def test_text_table_is_aligned_and_complete() -> None:
    table = str(Comparison((BASE, "tone"), ("I lost my dog.",), (("word " * 30, "sadness"),)))
    lines = table.splitlines()
    assert max(map(len, lines)) <= 110
    column = lines[0].index("tone")
    assert lines[2][column:] == "sadness"
    assert table.count("word") == 30


def test_html_is_escaped() -> None:
    html = Comparison((CANARY,), (CANARY,), ((CANARY,),))._repr_html_()
    assert "<img" not in html
    assert html.count("&lt;img") == 3


@pytest.mark.parametrize("prompts", [[], "one text"])
def test_prompts_that_are_not_a_list_are_refused(prompts: object) -> None:
    with pytest.raises(InvalidSettings, match="nothing to compare"):
        compare(FakeEndpoint({BASE: ["x"]}), prompts)  # type: ignore[arg-type]


def test_refused_request_is_raised() -> None:
    with pytest.raises(RequestRefused, match="queue full"):
        compare(FakeEndpoint({BASE: [refused("queue full")]}), ["a", "b"])  # type: ignore[arg-type]


def test_comparison_can_be_cancelled() -> None:
    endpoint = FakeEndpoint({BASE: ["slow", " answer"]})
    endpoint.gate.clear()
    progress = Progress()

    class CancelledSoon(Progress):
        def show_advance(self, done: float, total: float | None, unit: str) -> None:
            self.cancel()

    progress = CancelledSoon()
    with pytest.raises(Cancelled):
        compare(endpoint, ["a", "b"], progress=progress)  # type: ignore[arg-type]
    endpoint.gate.set()


def test_hanging_request_does_not_keep_the_interpreter_alive() -> None:
    code = """
        import threading
        from nbtoolkit.endpoint import ServedModel
        from nbtoolkit.errors import Cancelled
        from nbtoolkit.inference.comparison import compare
        from nbtoolkit.progress import Progress

        class HangingEndpoint:
            def models(self):
                return [ServedModel(id="tiny-base")]

            def chat(self, *arguments, **sampling):
                threading.Event().wait()

        progress = Progress()
        threading.Timer(0.2, progress.cancel).start()
        try:
            compare(HangingEndpoint(), ["a", "b"], progress=progress)
        except Cancelled:
            print("cancelled")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "cancelled\n"
