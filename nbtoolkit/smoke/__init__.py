"""Smoke-test an adapter on its base before anything is rolled out.

report = smoke_test(SmokeSettings(adapter="adapters/tone", base="models/base"))
print(report)
report.raise_for_failure()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbtoolkit.smoke.report import SmokeReport, newest
from nbtoolkit.smoke.settings import SmokeSettings

if TYPE_CHECKING:
    from nbtoolkit.smoke.workflow import smoke_test as smoke_test

__all__ = ["SmokeReport", "SmokeSettings", "newest", "smoke_test"]


def __getattr__(name: str) -> Any:  # the workflow brings server and sync along, a report does not
    if name == "smoke_test":
        from nbtoolkit.smoke.workflow import smoke_test

        return smoke_test
    raise AttributeError(f"module 'nbtoolkit.smoke' has no attribute {name!r}")
