"""G6: speed and memory against the user's budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import SmokeSettings

pytest.importorskip("torch")
GIB = 1 << 30


def compare(peak: float = 2, **settings: Any) -> Any:
    from nbtoolkit.smoke.model_level.budget import Usage, compare_with_budget
    from nbtoolkit.smoke.model_level.context import Device

    usage = Usage(0.5, 20.0, 25.0, peak=int(peak * GIB), total=4 * GIB)
    made = SmokeSettings(adapter=Path("a"), base="b", **settings)
    return compare_with_budget(usage, made, Device("cpu", "CPU, 2 threads", False))


def test_usage_is_reported_with_the_device() -> None:
    found = compare()
    assert found.verdict == "pass"
    assert found.summary == (
        "first token after 0.5 s, 20 tokens/s, peak memory 2 of 4 GiB, on CPU, 2 threads"
    )
    assert found.evidence["tokens_per_second_of"] == {"adapter": 20.0, "base": 25.0}


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"max_ttft": 0.4}, "takes 0.5 s, the budget is 0.4 s"),
        ({"min_tokens_per_second": 30}, "20 tokens/s, the budget is 30"),
        ({"max_memory": 1.5}, "2 GiB, the budget is 1.5 GiB"),
    ],
)
def test_usage_over_the_budget_fails(budget: dict[str, float], message: str) -> None:
    found = compare(**budget)
    assert found.verdict == "fail"
    assert message in found.summary
    assert found.remedy


def test_usage_within_the_budget_passes() -> None:
    assert compare(max_ttft=0.5, min_tokens_per_second=20, max_memory=2).verdict == "pass"


def test_nearly_full_memory_is_a_warning() -> None:
    assert compare(peak=3.5).verdict == "pass"
    found = compare(peak=3.7)
    assert found.verdict == "warn"
    assert "90 %" in found.summary


def test_memory_is_that_of_the_container(tmp_path: Path) -> None:
    from nbtoolkit.smoke.model_level.budget import device_memory, peak_memory

    assert device_memory("cpu", tmp_path) > GIB // 4
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory("cpu", tmp_path) > GIB // 4
    (tmp_path / "memory.max").write_text("1048576\n")
    assert device_memory("cpu", tmp_path) == 1 << 20
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text("Name:\tpython\nVmHWM:\t    2048 kB\n")
    assert peak_memory("cpu", tmp_path) == 2 << 20
