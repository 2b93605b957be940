"""Azure fails at every request in every way: a step ends well, or says why and leaves nothing half done."""

from __future__ import annotations

import pytest

from tests.fault_matrix import matrix
from tests.fault_matrix.kinds import KINDS

SEED = 20_261_122
PROCESSES = 2


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "seconds", [25.0, pytest.param(float("inf"), marks=pytest.mark.all)], ids=["sample", "all"]
)
def test_each_operation_with_each_fault_ends_well_or_says_why_and_leaves_nothing_half_done(
    seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = matrix.run(PROCESSES, SEED, seconds)
    with capsys.disabled():
        print(f"\n{matrix.summary(outcomes)}")
    bad = [
        f"{one.case}: {one.ended}: {one.said}\n  {problem}" for one in outcomes for problem in one.problems
    ]
    assert not bad, "\n".join(bad)
    struck = [one for one in outcomes if one.struck]
    assert len(struck) > 0.8 * len(outcomes), "too few faults met their request to show anything"
    if seconds == float("inf"):
        assert {one.case.kind for one in struck} == {kind.name for kind in KINDS}
