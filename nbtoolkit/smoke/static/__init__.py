"""The static level: seconds, no torch, and of the base only its configuration and headers."""

from __future__ import annotations

from nbtoolkit.smoke.static import base_match, config, files
from nbtoolkit.smoke.static import weight_values as numbers

__all__ = ["base_match", "config", "files", "numbers"]
