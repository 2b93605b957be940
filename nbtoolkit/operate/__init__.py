"""Operate the app on Azure: scale, secrets, portal pages, repair of the mount, teardown."""

from __future__ import annotations

from nbtoolkit.operate.portal import Links, links
from nbtoolkit.operate.repair_mount import Repair, repair
from nbtoolkit.operate.scaling import ScaleSettings, scale
from nbtoolkit.operate.secret import SecretPut, SecretSettings, put_secret
from nbtoolkit.operate.teardown import OperateSettings, Teardown, TeardownSettings, teardown

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
