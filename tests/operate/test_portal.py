"""Links to the portal, through the real SDKs against the double."""

from __future__ import annotations

import base64
import gzip
from urllib.parse import unquote

from azure.identity import EnvironmentCredential
from azure.mgmt.loganalytics import LogAnalyticsManagementClient

from nbtoolkit import (
    links,
)
from nbtoolkit.azure.clients import Cloud
from tests.support.azure_project import APP, ENVIRONMENT, GROUP, REGION, MakeProject


def test_links_lead_to_the_portal_and_to_the_log_with_its_query(make_project: MakeProject) -> None:
    project = make_project()
    client = LogAnalyticsManagementClient(
        EnvironmentCredential(), project.double.subscription, polling_interval=0.05
    )
    logs = client.workspaces.begin_create_or_update(GROUP, "ailog", {"location": REGION}).result()
    client.close()
    to = {"customerId": logs.customer_id, "sharedKey": "a2V5"}
    apps = Cloud.shared().containerapps(project.double.subscription)
    change = {"appLogsConfiguration": {"destination": "log-analytics", "logAnalyticsConfiguration": to}}
    apps.managed_environments.begin_update(
        GROUP, ENVIRONMENT, {"location": REGION, "properties": change}
    ).result()
    found = links(project.target)
    assert found["App"] == f"https://portal.azure.com/#resource{project.names.app_id}"
    packed = found["All logs"].partition("/q/")[2].partition("/")[0]
    query = gzip.decompress(base64.b64decode(unquote(unquote(packed)))).decode()
    assert f"where ContainerAppName_s == '{APP}'" in query
    assert found["Chat"] == project.names.endpoint
    assert project.double.apps.ingress_requests(APP) == 0
    html = found._repr_html_()
    assert html.count("<a href=") == len(found.pages) == str(found).count("https://")
