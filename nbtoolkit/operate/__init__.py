"""Look after what runs on Azure: its limits, its secrets, its pages, its repair, its end."""

from __future__ import annotations

from nbtoolkit.operate.portal import Links, links
from nbtoolkit.operate.repair_mount import Repair, repair
from nbtoolkit.operate.scaling import ScaleSettings, scale
from nbtoolkit.operate.secret import SecretPut, SecretSettings, put_secret
from nbtoolkit.operate.settings import OperateSettings
from nbtoolkit.operate.teardown import Teardown, TeardownSettings, teardown

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
