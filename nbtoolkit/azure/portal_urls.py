"""Pages of the Azure portal: a resource, the app, its live log, quotas."""

from __future__ import annotations

from nbtoolkit.azure.arm.resource_names import ResourceNames

QUOTA_PAGE = "https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas"
"""Page on which quotas are shown and raised; the provider there is called Azure Container Apps."""


def portal_url(resource_id: str) -> str:
    """Return the URL of the page of a resource."""
    return f"https://portal.azure.com/#resource{resource_id}"


def app_page(names: ResourceNames) -> str:
    """Return the URL of the app's page."""
    return portal_url(names.app_id)


def log_stream_page(names: ResourceNames) -> str:
    """Return the URL of the app's live log; opening it may wake the app."""
    return f"{portal_url(names.app_id)}/logstream"
