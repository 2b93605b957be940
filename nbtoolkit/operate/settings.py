"""The settings of the notebook that looks after what runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nbtoolkit.operate.teardown import TeardownSettings
from nbtoolkit.settings import Settings


class OperateSettings(Settings):
    """How much of the log to show, and what to tear down."""

    log_lines: int = Field(default=100, ge=1, le=300, description="lines of each console's log to show")
    scope: Literal["app", "all"] = Field(default="app", description="what a teardown deletes")
    confirm_name: str = Field(default="", description="the app's name, to have the teardown done")

    @property
    def teardown(self) -> TeardownSettings:
        """What to delete."""
        return TeardownSettings(scope=self.scope, confirm_name=self.confirm_name)
