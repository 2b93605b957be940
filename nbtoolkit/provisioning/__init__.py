"""Provision: plan, check and create the Azure resources of the inference app."""

from __future__ import annotations

from nbtoolkit.provisioning.plan import ProvisionPlan
from nbtoolkit.provisioning.plan_builder import plan
from nbtoolkit.provisioning.preflight import Preflight, preflight
from nbtoolkit.provisioning.provision import Provision, provision
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
