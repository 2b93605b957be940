"""Helpers of the tests of Azure file shares: sizes, requests of the double, random content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from nbtoolkit.filestore import chunked_io
from tests.azure_double import AzureDouble
from tests.azure_double.double import LoggedRequest
from tests.azure_double.share_setup import ACCOUNT, SHARE

BIG = 2 * chunked_io.CHUNK + 17
LONG = 6 * chunked_io.CHUNK
HOST = f"{ACCOUNT}.file.core.windows.net"


def take_requests(double: AzureDouble) -> list[LoggedRequest]:
    """Return and clear the requests to the share."""
    seen = [request for request in double.requests if request.host == HOST]
    double.requests.clear()
    return seen


def ranges(double: AzureDouble) -> int:
    return sum(seen.query.get("comp") == "range" for seen in take_requests(double))


def on_disk(double: AzureDouble) -> Path:
    return double.files.folder(ACCOUNT, SHARE)


def content(size: int = BIG) -> tuple[bytes, str]:
    data = os.urandom(size)
    return data, hashlib.sha256(data).hexdigest()


def re_host() -> str:
    return HOST.replace(".", r"\.")
