"""Look after what runs on Azure: its limits, its secrets, its pages, its repair, its end."""

from __future__ import annotations

from nbtoolkit.operate.deletion import Teardown, TeardownSettings, teardown
from nbtoolkit.operate.mending import Repair, repair
from nbtoolkit.operate.portal import Links, links
from nbtoolkit.operate.scaling import ScaleSettings, scale
from nbtoolkit.operate.secret import SecretPut, SecretSettings, put_secret
from nbtoolkit.operate.settings import OperateSettings

__all__ = [
    "Links",
    "OperateSettings",
    "Repair",
    "ScaleSettings",
    "SecretPut",
    "SecretSettings",
    "Teardown",
    "TeardownSettings",
    "links",
    "put_secret",
    "repair",
    "scale",
    "teardown",
]
