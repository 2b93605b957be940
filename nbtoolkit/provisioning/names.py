"""Which name each resource gets: the one chosen, else the one that the AI Toolkit derives."""

from __future__ import annotations

from nbtoolkit.azure.arm.default_names import DefaultNames
from nbtoolkit.azure.arm.resource_names import Names
from nbtoolkit.provisioning.settings import ProvisionSettings


def names_of(settings: ProvisionSettings, group_id: str | None = None) -> Names:
    """Return all names; ``group_id`` is the resource group's id as Azure spells it, where it exists.

    Derived names depend on that spelling.
    """
    subscription, where = settings.subscription, settings.resource_group
    if group_id:
        parts = group_id.split("/")
        subscription, where = parts[2], parts[4]
    derived = DefaultNames.of(subscription, where)
    return Names(
        subscription=subscription,
        resource_group=where,
        account=settings.storage_account or derived.storage_account,
        share=settings.file_share or derived.file_share,
        environment=settings.environment_name or derived.environment,
        environment_storage=settings.environment_storage or derived.environment_storage,
        app=settings.app or derived.app,
        workspace=settings.log_analytics or derived.log_analytics,
    )
