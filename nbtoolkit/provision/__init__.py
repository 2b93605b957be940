"""Provision: make what the inference app needs on Azure, after showing what that changes and costs."""

from __future__ import annotations

from nbtoolkit.provision.plan import ProvisionPlan
from nbtoolkit.provision.planning import plan
from nbtoolkit.provision.preflight import Preflight, preflight
from nbtoolkit.provision.result import Provision
from nbtoolkit.provision.rules import blockers
from nbtoolkit.provision.settings import Consent, ProvisionSettings
from nbtoolkit.provision.workflow import provision

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
