"""The page of Log Analytics with the query for an app's log."""

from __future__ import annotations

import base64
import gzip
from typing import Any
from urllib.parse import unquote

from nbtoolkit.azure.logs.log_analytics import log_query, log_query_page, query_page
from nbtoolkit.azure.resource_id import portal_url
from tests.support.log_streams import WORKSPACE, FakeApp


def test_page_runs_the_query_in_the_portal() -> None:
    app: Any = FakeApp()
    page = log_query_page(app)
    assert page == query_page(WORKSPACE, log_query("aiapp"))
    packed = page.partition("/q/")[2].partition("/timespan/")[0]
    query = gzip.decompress(base64.b64decode(unquote(unquote(packed)))).decode()
    assert "ContainerAppName_s == 'aiapp'" in query
    assert "%2Fsubscriptions%2Fs%2F" in page


def test_page_of_the_app_without_a_workspace() -> None:
    app: Any = FakeApp()
    app.log_workspace = None
    assert log_query_page(app) == portal_url(app.provisioned.app_id)
