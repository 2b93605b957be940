"""The same prompts asked of several models become a table."""

from __future__ import annotations

import pytest

from nbtoolkit.errors import Cancelled, InvalidSettings, RequestRefused
from nbtoolkit.inference.comparison import Comparison, compare
from nbtoolkit.progress import Progress
from tests.support.fake_endpoint import BASE, FakeEndpoint, refused

CANARY = "<img src=x onerror=alert(1)>"


def test_all_models_are_asked_greedily_and_the_base_comes_first() -> None:
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


def test_the_plain_table_keeps_columns_aligned_and_every_word() -> None:
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
def test_no_list_of_prompts_is_refused(prompts: object) -> None:
    with pytest.raises(InvalidSettings, match="nothing to compare"):
        compare(FakeEndpoint({BASE: ["x"]}), prompts)  # type: ignore[arg-type]


def test_a_refused_request_is_raised() -> None:
    with pytest.raises(RequestRefused, match="queue full"):
        compare(FakeEndpoint({BASE: [refused("queue full")]}), ["a", "b"])  # type: ignore[arg-type]


def test_a_comparison_can_be_cancelled() -> None:
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
