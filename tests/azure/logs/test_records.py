"""Records of Azure's log streams are parsed as Azure writes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nbtoolkit.azure.logs.records import LogLine, console_record, parse_time, system_record
from tests.support.log_streams import BEGIN, console, event, texts


def test_lines_are_parsed_as_azure_writes_them() -> None:
    line = console_record(console(0, "F text"), "app--r1-abc-xyz12").line
    assert line
    assert (line.text, str(line)) == ("F text", "2026-05-14 13:10:36 [xyz12] F text")
    state = '{"TimeStamp":"2026-05-14T13:11:13","Log":"No logs since last 60 seconds"}'
    assert console_record(state, "r").line is None
    plain = console_record("no json at all", "r").line
    assert plain
    assert plain.text == "no json at all"
    empty = console_record(console(0, ""), "r").line
    assert empty
    assert empty.text == ""
    system = system_record(event(0, "PulledImage", "<b>"), "aiapp").line
    assert system
    assert str(system) == "2026-05-14 13:10:36 [azure] PulledImage: <b>"
    note = LogLine(BEGIN, "x", "nothing", "note")
    assert str(note) == "(nothing)"


@pytest.mark.parametrize(
    "text",
    [
        "2025-05-14T13:11:13.74704",
        "2025-05-14T13:11:13.747040123+00:00",
        "2025-05-14 13:11:13.7470401 +0000 UTC",
        "2025-05-14T15:11:13.74704+02:00",
        "2025-05-14T13:11:13.74704Z",
    ],
)
def test_timestamps_are_parsed_in_every_format(text: str) -> None:
    assert parse_time(text) == datetime(2025, 5, 14, 13, 11, 13, 747040, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2025-13-14T13:11:13Z", "0001-01-01T00:00:00+09:00", "soon", None, 7])
def test_invalid_timestamp_is_the_current_time(text: object) -> None:
    assert abs(parse_time(text) - datetime.now(UTC)) < timedelta(seconds=5)


def test_recorded_streams_are_parsed(shared: Path) -> None:
    kinds = {"logstream": console_record, "eventstream": system_record}
    read: dict[str, list[LogLine]] = {"logstream": [], "eventstream": []}
    for text in (shared / "azure" / "recordings" / "containerapp-cli-2025.jsonl").read_text().splitlines():
        exchange = json.loads(text)
        for kind, parse in kinds.items():
            if f"/{kind}?" in exchange["url"]:
                records = [parse(raw, "source") for raw in exchange["resp_body"].splitlines() if raw.strip()]
                read[kind] += [record.line for record in records if record.line]
    assert texts(read["logstream"]) == ["2025/05/14 13:10:36 Listening on :80..."]
    assert "PulledImage" in "".join(texts(read["eventstream"]))
    assert not [line for line in read["eventstream"] if "events collector" in line.text]
    assert all(line.at.year == 2025 for lines in read.values() for line in lines)
