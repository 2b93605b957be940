"""Which name each resource gets: the one chosen, else the one that the AI Toolkit derives."""

from __future__ import annotations

from nbtoolkit.azure.names import Names
from nbtoolkit.azure.unique_names import DefaultNames
from nbtoolkit.provisioning.settings import ProvisionSettings


def names_of(settings: ProvisionSettings, group: str | None = None) -> Names:
    """Return all names; ``group`` is the resource group's name as Azure spells it, where it exists.

    Derived names depend on that spelling.
    """
    where = group or settings.resource_group
    derived = DefaultNames.of(settings.subscription, where)
    return Names(
        subscription=settings.subscription,
        resource_group=where,
        account=settings.storage_account or derived.storage_account,
        share=settings.file_share or derived.file_share,
        environment=settings.environment_name or derived.environment,
        environment_storage=settings.environment_storage or derived.environment_storage,
        app=settings.app or derived.app,
        workspace=settings.log_analytics or derived.log_analytics,
    )
