"""Smoke-test an adapter on its base before it is deployed.

report = smoke_test(SmokeSettings(adapter="adapters/tone", base="models/base"))
print(report)
report.raise_for_failure()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbtoolkit.smoke.report import SmokeReport, newest_report
from nbtoolkit.smoke.settings import SmokeSettings

if TYPE_CHECKING:
    from nbtoolkit.smoke.workflow import smoke_test as smoke_test

__all__ = ["SmokeReport", "SmokeSettings", "newest_report", "smoke_test"]


def __getattr__(name: str) -> Any:  # the workflow imports server and sync, which a report does not need
    if name == "smoke_test":
        from nbtoolkit.smoke.workflow import smoke_test

        return smoke_test
    raise AttributeError(f"module 'nbtoolkit.smoke' has no attribute {name!r}")
