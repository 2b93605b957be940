"""Connections to Azure are closed or reused after an error, a cancel, and without a call of close()."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from azure.core.exceptions import HttpResponseError

from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import Cancelled
from tests.azure_double import AzureDouble, Request, Response
from tests.azure_double.clock import Clock
from tests.azure_double.faults import Throttled
from tests.azure_double.http import Handler
from tests.azure_double.share_setup import provisioned_share


@pytest.fixture
def connections(azure_double: AzureDouble) -> Callable[[], set[int]]:
    """Return the local ports of the open connections of this process to the double."""
    port = urlsplit(azure_double.environ()["HTTPS_PROXY"]).port

    def ports() -> set[int]:
        found = psutil.Process().net_connections("tcp")
        return {connection.laddr.port for connection in found if connection.raddr[1:] == (port,)}

    return ports


def test_a_download_that_is_cancelled_while_throttled_returns_its_connection(
    azure_double: AzureDouble, connections: Callable[[], set[int]]
) -> None:
    store = AzureShare(Cloud(), provisioned_share(azure_double))
    store.write("file", b"content")
    before = connections()
    planned = azure_double.faults.on("GET", "/file$", Throttled(3000), times=100)

    def passed(_: int) -> None:
        if planned.hits:
            raise Cancelled("The read was cancelled.", next_step="read it again")

    with pytest.raises(Cancelled) as caught:
        store.sha256("file", passed)
    assert [entry.name for entry in store.list("")] == ["file"]
    assert connections() == before
    del caught  # until here its traceback referenced the response


def test_a_request_to_resource_manager_that_is_throttled_is_repeated_over_the_same_connection(
    azure_double: AzureDouble, connections: Callable[[], set[int]]
) -> None:
    cloud, found = Cloud(), provisioned_share(azure_double)
    apps = cloud.containerapps(found.subscription).container_apps
    with pytest.raises(HttpResponseError):
        apps.get(found.resource_group, found.app)  # signed in and connected
    opened: list[set[int]] = []

    def throttled(request: Request, serve: Handler, clock: Clock) -> Response:
        opened.append(connections())
        return Throttled(5)(request, serve, clock)

    azure_double.faults.on("POST", "/stop$", throttled, times=3)
    with suppress(HttpResponseError):
        apps.begin_stop(found.resource_group, found.app)
    assert len(opened) == 3
    assert opened[0] == opened[1] == opened[2]
    cloud.close()


def test_a_cloud_without_close_leaves_no_connection_open(
    azure_double: AzureDouble, connections: Callable[[], set[int]]
) -> None:
    before = connections()
    cloud = Cloud()
    with suppress(httpx.HTTPError):
        cloud.http().get(f"https://management.azure.com/subscriptions/{azure_double.subscription}")
    assert connections() > before
    del cloud
    gc.collect()
    assert connections() <= before
