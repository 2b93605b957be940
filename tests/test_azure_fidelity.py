"""The Azure double answers as Azure did, wherever it was recorded."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bicep_compiler import NO_COMPILER, find_bicep
from tests.fidelity import arm_sessions, files_replay
from tests.fidelity.arm_replay import Compared
from tests.fidelity.exchanges import RECORDINGS, Exchange, recorded
from tests.fidelity.kinds import Kind, kind
from tests.fidelity.tolerated import NOT_CALLED, TOLERATED, not_called


@pytest.fixture(scope="module")
def recordings(shared: Path) -> list[Exchange]:
    """All recorded exchanges."""
    folder = shared / "azure" / "recordings"
    return [exchange for name in RECORDINGS for exchange in recorded(folder, name)]


@pytest.fixture(scope="module")
def replayed(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Compared]:
    """Every recorded exchange that is replayed, compared with the double's answer."""
    if find_bicep() is None:
        pytest.skip(NO_COMPILER)
    folder = shared / "azure" / "recordings"
    with ThreadPoolExecutor(4) as pool:
        told = [
            pool.submit(arm_sessions.tell, story, tmp_path_factory.mktemp("azure"))
            for story in arm_sessions.stories(folder)
        ]
        files = pool.submit(files_replay.replay_all, folder, tmp_path_factory.mktemp("files"))
        return [compared for each in [*told, files] for compared in each.result()]


def test_the_double_answers_as_azure_did(replayed: list[Compared]) -> None:
    different = [f"{each.recorded.where} {each.kind}: {what}" for each in replayed for what in each.found]
    assert different == []


def test_every_recorded_kind_is_replayed_or_has_a_reason(
    recordings: list[Exchange], replayed: list[Compared], capsys: pytest.CaptureFixture[str]
) -> None:
    all_kinds = Counter(kind(exchange) for exchange in recordings)
    covered = {each.kind for each in replayed if not each.found}
    left_out = {each: not_called(each) for each in all_kinds if not_called(each)}
    missing = sorted(set(all_kinds) - covered - set(left_out))
    with capsys.disabled():
        print(f"\n{_report(all_kinds, replayed, covered, left_out)}")
    assert missing == []
    assert covered.isdisjoint(left_out)


def test_no_reason_is_left_over(recordings: list[Exchange], replayed: list[Compared]) -> None:
    reasons = {not_called(kind(exchange)) for exchange in recordings}
    assert {why for _, why in NOT_CALLED} <= reasons
    met = {entry for each in replayed for entry in each.allowed}
    assert [entry.why for entry in TOLERATED if entry not in met] == []


def _report(
    all_kinds: Counter[Kind], replayed: list[Compared], covered: set[Kind], left_out: dict[Kind, str]
) -> str:
    lines = [
        f"recorded: {len(all_kinds)} kinds in {all_kinds.total()} exchanges; replayed and alike: "
        f"{len(covered)} kinds in {len(replayed)} exchanges; not called: {len(left_out)} kinds"
    ]
    for why in dict.fromkeys(left_out.values()):
        kinds = [str(each) for each, reason in left_out.items() if reason == why]
        lines.append(f"  {len(kinds)} not called, {why}: {', '.join(kinds)}")
    met = {entry for each in replayed for entry in each.allowed}
    lines += [f"  tolerated in {entry.operation}: {entry.why}" for entry in TOLERATED if entry in met]
    return "\n".join(lines)
