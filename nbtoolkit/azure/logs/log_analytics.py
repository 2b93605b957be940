"""Log Analytics: an app's workspace, the query for its log, and its page in the Azure portal."""

from __future__ import annotations

import base64
import gzip
from typing import TYPE_CHECKING
from urllib.parse import quote

from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.resource_id import portal_url
from nbtoolkit.errors import AzureFailed

if TYPE_CHECKING:
    from nbtoolkit.azure.clients import Cloud
    from nbtoolkit.azure.container_apps.app import ContainerApp
    from nbtoolkit.azure.container_apps.models import EnvironmentState

_LOGS = "https://portal.azure.com/#blade/Microsoft_OperationsManagementSuite_Workspace/Logs.ReactView"
_MAX_LINES = 1000


def log_query(app: str) -> str:
    """Return the query for the output of an app's containers and its system events, the newest first.

    Azure writes both to Log Analytics some minutes late.
    """
    name = app.replace("\\", "\\\\").replace("'", "\\'")
    return "\n".join(
        [
            "union isfuzzy=true ContainerAppConsoleLogs_CL, ContainerAppSystemLogs_CL",
            f"| where ContainerAppName_s == '{name}'",
            "| extend Replica = coalesce(column_ifexists('ContainerGroupName_s', ''), "
            "column_ifexists('ReplicaName_s', ''))",
            "| project TimeGenerated, Type, Replica, Reason = column_ifexists('Reason_s', ''), Log_s",
            "| order by TimeGenerated desc",
            f"| take {_MAX_LINES}",
        ]
    )


def query_page(workspace_id: str, query: str) -> str:
    """Return the URL of the page that runs a query over the last day of a Log Analytics workspace.

    The portal takes the query as gzip in base64, percent-encoded twice.
    """
    packed = base64.b64encode(gzip.compress(query.encode(), mtime=0)).decode()
    return (
        f"{_LOGS}/resourceId/{quote(workspace_id, safe='')}/source/LogsBlade.AnalyticsShareLinkToQuery"
        f"/q/{quote(quote(packed, safe=''), safe='')}/timespan/P1D"
    )


def log_query_page(app: ContainerApp) -> str:
    """Return the URL of the page with the app's whole log, its query ready to run; three requests to ARM.

    Without a workspace that the user may read, this is the app's page.
    """
    names = app.provisioned
    try:
        workspace = workspace_of(app.cloud, names.subscription, app.environment())
    except AzureFailed:
        workspace = None
    return query_page(workspace, log_query(names.app)) if workspace else portal_url(names.app_id)


def workspace_of(cloud: Cloud, subscription: str, environment: EnvironmentState) -> str | None:
    """Return the id of an environment's Log Analytics workspace, None without one. One request."""
    customer = environment.log_workspace
    if not customer:
        return None
    with translate_errors("list the Log Analytics workspaces"):
        listed = cloud.workspaces(subscription).workspaces.list()
        return next((one.id for one in listed if one.customer_id == customer), None)
