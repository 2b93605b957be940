"""Log Analytics: the query for an app's log, and its page in the Azure portal."""

from __future__ import annotations

import base64
import gzip
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.portal_urls import app_page
from nbtoolkit.errors import AzureFailed

if TYPE_CHECKING:
    from nbtoolkit.azure.container_apps.app import ContainerApp

Timespan = Literal["PT1H", "PT4H", "PT12H", "P1D", "P2D", "P7D"]
_LOGS = "https://portal.azure.com/#blade/Microsoft_OperationsManagementSuite_Workspace/Logs.ReactView"
_LINES = 1000


def log_query(app: str) -> str:
    """Return the query for what an app's containers printed and what happened to them, the newest first.

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
            f"| take {_LINES}",
        ]
    )


def query_page(workspace_id: str, query: str, timespan: Timespan = "P1D") -> str:
    """Return the page that runs a query in a Log Analytics workspace, given its resource id.

    The portal takes the query as gzip in base64, percent-encoded twice.
    """
    packed = base64.b64encode(gzip.compress(query.encode(), mtime=0)).decode()
    return (
        f"{_LOGS}/resourceId/{quote(workspace_id, safe='')}/source/LogsBlade.AnalyticsShareLinkToQuery"
        f"/q/{quote(quote(packed, safe=''), safe='')}/timespan/{timespan}"
    )


def log_query_page(app: ContainerApp) -> str:
    """Return the page with the app's whole log, its query ready to run; three requests to ARM.

    Where the workspace cannot be found, because logs go elsewhere or the user may not see it, the app's page.
    """
    try:
        workspace = _workspace_id(app)
    except AzureFailed:
        workspace = None
    if workspace is None:
        return app_page(app.provisioned)
    return query_page(workspace, log_query(app.provisioned.app))


def _workspace_id(app: ContainerApp) -> str | None:
    customer = app.environment().log_workspace
    if not customer:
        return None
    with translate_errors("list the Log Analytics workspaces"):
        for one in app.cloud.workspaces(app.provisioned.subscription).workspaces.list():
            if one.customer_id == customer:
                return one.id
    return None
