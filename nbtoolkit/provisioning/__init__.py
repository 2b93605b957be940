"""Provision: make what the inference app needs on Azure, after showing what that changes and costs."""

from __future__ import annotations

from nbtoolkit.provisioning.plan import ProvisionPlan
from nbtoolkit.provisioning.plan_builder import plan
from nbtoolkit.provisioning.preflight import Preflight, preflight
from nbtoolkit.provisioning.provision import provision
from nbtoolkit.provisioning.result import Provision
from nbtoolkit.provisioning.settings import Consent, ProvisionSettings
from nbtoolkit.provisioning.validation import blockers

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
