"""Provision: make what the inference app needs on Azure, after showing what that changes and costs."""

from __future__ import annotations

from nbtoolkit.provisioning.plan import ProvisionPlan
from nbtoolkit.provisioning.planning import plan
from nbtoolkit.provisioning.preflight import Preflight, preflight
from nbtoolkit.provisioning.result import Provision
from nbtoolkit.provisioning.rules import blockers
from nbtoolkit.provisioning.settings import Consent, ProvisionSettings
from nbtoolkit.provisioning.workflow import provision

__all__ = [
    "Consent",
    "Preflight",
    "Provision",
    "ProvisionPlan",
    "ProvisionSettings",
    "blockers",
    "plan",
    "preflight",
    "provision",
]
