"""The Azure double answers as Azure did, wherever it was recorded."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fidelity import arm_sessions, files_replay
from tests.fidelity.allowed_differences import ALLOWED_DIFFERENCES, NOT_CALLED, reason_not_called
from tests.fidelity.arm_replay import Comparison
from tests.fidelity.compare import differences
from tests.fidelity.exchanges import RECORDINGS, Exchange, recorded
from tests.fidelity.operation_names import ExchangeKind, exchange_kind
from tests.support.bicep_compiler import NO_COMPILER, find_bicep


@pytest.fixture(scope="module")
def recordings(shared: Path) -> list[Exchange]:
    """All recorded exchanges."""
    folder = shared / "azure" / "recordings"
    return [exchange for name in RECORDINGS for exchange in recorded(folder, name)]


@pytest.fixture(scope="module")
def replayed(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Comparison]:
    """Every recorded exchange that is replayed, compared with the double's answer."""
    if find_bicep() is None:
        pytest.skip(NO_COMPILER)
    folder = shared / "azure" / "recordings"
    with ThreadPoolExecutor(4) as pool:
        told = [
            pool.submit(arm_sessions.replay_session, story, tmp_path_factory.mktemp("azure"))
            for story in arm_sessions.recorded_sessions(folder)
        ]
        files = pool.submit(files_replay.replay_all, folder, tmp_path_factory.mktemp("files"))
        return [compared for each in [*told, files] for compared in each.result()]


def exchange(body: object, status: int = 200, **headers: str) -> Exchange:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Exchange("", "", "GET", "https://management.azure.com/", status, {}, b"", names, _sent(body))


def _sent(body: object) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


XML = '\ufeff<?xml version="1.0" encoding="utf-8"?><Shares><Share><Name>a</Name></Share></Shares>'


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        (exchange({}), exchange({}, 201), "status: recorded 200, answered 201"),
        (exchange({}, location="x"), exchange({}), "header location: only recorded"),
        (exchange({}), exchange({}, azure_asyncoperation="x"), "header azure-asyncoperation: only answered"),
        (exchange({}, retry_after="0"), exchange({}), "header retry-after: only recorded"),
        (exchange({}, content_type="text/a"), exchange({}, content_type="text/b"), "header content-type"),
        (
            exchange("", x_ms_version="1", x_ms_type="File"),
            exchange("", x_ms_version="1"),
            "header x-ms-type: only recorded",
        ),
        (exchange(""), exchange({}), "body: only answered"),
        (exchange({"a": {"b": 1}}), exchange({"a": {}}), "body.a.b: only recorded"),
        (exchange({"a": 1}), exchange({"a": "1"}), "body.a: recorded number, answered text"),
        (exchange({"a": True}), exchange({"a": 1}), "body.a: recorded boolean, answered number"),
        (exchange({"a": [1]}), exchange({"a": []}), "body.a[]: empty"),
        (exchange({"a": [{"b": 1}]}), exchange({"a": [{"b": 1}, {"c": 1}]}), "body.a[].b: only recorded"),
        (exchange({"type": "T/a"}), exchange({"type": "T/A"}), "body.type: recorded 'T/a'"),
        (exchange(XML), exchange(XML.replace("Name", "Title")), "body.Shares.Share.Name: only recorded"),
        (exchange(XML), exchange(XML.lstrip("\ufeff")), "body: not XML behind a byte order mark"),
    ],
)
def test_differences_are_found(there: Exchange, here: Exchange, found: str) -> None:
    (only,) = differences(there, here)
    assert only.startswith(found)
    assert differences(there, there) == []


def test_the_double_responds_as_recorded(replayed: list[Comparison]) -> None:
    different = [f"{each.recorded.where} {each.kind}: {what}" for each in replayed for what in each.found]
    assert different == []


def test_every_recorded_kind_is_replayed_or_has_a_reason(
    recordings: list[Exchange], replayed: list[Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    all_kinds = Counter(exchange_kind(exchange) for exchange in recordings)
    covered = {each.kind for each in replayed if not each.found}
    left_out = {each: reason_not_called(each) for each in all_kinds if reason_not_called(each)}
    missing = sorted(set(all_kinds) - covered - set(left_out))
    with capsys.disabled():
        print(f"\n{_report(all_kinds, replayed, covered, left_out)}")
    assert missing == []
    assert covered.isdisjoint(left_out)


def test_every_reason_is_used(recordings: list[Exchange], replayed: list[Comparison]) -> None:
    reasons = {reason_not_called(exchange_kind(exchange)) for exchange in recordings}
    assert {why for _, why in NOT_CALLED} <= reasons
    met = {entry for each in replayed for entry in each.allowed}
    assert [entry.why for entry in ALLOWED_DIFFERENCES if entry not in met] == []


def _report(
    all_kinds: Counter[ExchangeKind],
    replayed: list[Comparison],
    covered: set[ExchangeKind],
    left_out: dict[ExchangeKind, str],
) -> str:
    lines = [
        f"recorded: {len(all_kinds)} kinds in {all_kinds.total()} exchanges; replayed and alike: "
        f"{len(covered)} kinds in {len(replayed)} exchanges; not called: {len(left_out)} kinds"
    ]
    for why in dict.fromkeys(left_out.values()):
        kinds = [str(each) for each, reason in left_out.items() if reason == why]
        lines.append(f"  {len(kinds)} not called, {why}: {', '.join(kinds)}")
    met = {entry for each in replayed for entry in each.allowed}
    lines += [
        f"  tolerated in {entry.operation}: {entry.why}" for entry in ALLOWED_DIFFERENCES if entry in met
    ]
    return "\n".join(lines)
