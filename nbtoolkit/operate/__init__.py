"""Look after what runs on Azure: its limits, its secrets, its end."""

from __future__ import annotations

from nbtoolkit.operate.deletion import Teardown, TeardownSettings, teardown
from nbtoolkit.operate.scaling import ScaleSettings, scale
from nbtoolkit.operate.secret import SecretPut, SecretSettings, put_secret
from nbtoolkit.operate.settings import OperateSettings

__all__ = [
    "OperateSettings",
    "ScaleSettings",
    "SecretPut",
    "SecretSettings",
    "Teardown",
    "TeardownSettings",
    "put_secret",
    "scale",
    "teardown",
]
