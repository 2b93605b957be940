"""Provision: make what the inference app needs on Azure, after showing what that changes and costs."""

from __future__ import annotations

from nbtoolkit.provision.rules import blockers
from nbtoolkit.provision.settings import Consent, ProvisionSettings

__all__ = ["Consent", "ProvisionSettings", "blockers"]
