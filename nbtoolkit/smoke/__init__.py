"""Smoke-test an adapter on its base before anything is rolled out."""

from __future__ import annotations

from nbtoolkit.smoke.report import SmokeReport, newest

__all__ = ["SmokeReport", "newest"]
