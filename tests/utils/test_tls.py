"""Every HTTP client trusts the certificates that any of the environment's variables names."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trustme

from nbtoolkit.azure.clients import Cloud
from nbtoolkit.endpoint.http_client import client_options
from nbtoolkit.utils.tls import tls_context
from tests.azure_double import AzureDouble

NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_certificate_named_by_any_variable_is_trusted(
    azure_double: AzureDouble, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    authority = azure_double.environ()["SSL_CERT_FILE"]
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, authority)
    url = "https://nowhere.westus3.azurecontainerapps.io"
    with httpx.Client(**client_options(url)) as client:
        assert client.get(url).status_code == 404
    cloud = Cloud()
    assert cloud.http().get(url).status_code == 404
    cloud.close()


def test_an_unknown_certificate_is_not_trusted(
    azure_double: AzureDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    with httpx.Client(verify=tls_context()) as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
        client.get("https://nowhere.westus3.azurecontainerapps.io")
