"""A download returns one version of a file."""

from __future__ import annotations

import pytest

from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import StoreError
from tests.azure_double import AzureDouble, Request, Response
from tests.azure_double.clock import Clock
from tests.azure_double.http import Handler
from tests.support.file_share import BIG


def test_a_file_that_is_replaced_while_it_is_read_is_never_mixed(
    azure_double: AzureDouble, store: AzureShare
) -> None:
    store.write("a/big", bytes(BIG))

    def replace(request: Request, serve: Handler, clock: Clock) -> Response:
        store.write("a/big", b"\1" * BIG)
        return serve(request)

    azure_double.faults.on("GET", "a/big", replace, nth=2)
    with pytest.raises(StoreError, match="replaced while it was read"):
        store.read("a/big")
