"""A client without an SDK: it sends the recorded requests unchanged."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import ssl
from collections.abc import Mapping
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests.azure_double import AzureDouble

from .exchanges import Exchange

MANAGEMENT = "https://management.azure.com"


class Client:
    """An HTTP client that uses the double's proxy and a token of its login host."""

    def __init__(self, double: AzureDouble) -> None:
        environ = double.environ()
        trust = ssl.create_default_context(cafile=environ["SSL_CERT_FILE"])
        self._http = httpx.Client(proxy=environ["HTTPS_PROXY"], verify=trust, timeout=30, trust_env=False)
        answer = self._http.post(
            f"https://login.microsoftonline.com/{environ['AZURE_TENANT_ID']}/oauth2/v2.0/token",
            data={
                "grant_type": "client_credentials",
                "client_id": environ["AZURE_CLIENT_ID"],
                "client_secret": environ["AZURE_CLIENT_SECRET"],
                "scope": f"{MANAGEMENT}/.default",
            },
        )
        self._token = answer.raise_for_status().json()["access_token"]
        self.stream_token = ""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def arm(self, method: str, path: str, body: bytes = b"") -> Exchange:
        """Send a request to ARM; `path` has the query, or is a complete URL."""
        url = path if path.startswith("https:") else MANAGEMENT + path
        headers = {"authorization": f"Bearer {self._token}"}
        if body:
            headers["content-type"] = "application/json"
        return self.send(method, url, headers, body)

    def stream(self, url: str) -> Exchange:
        """Read a log stream to its end with the token of getAuthToken."""
        return self.send("GET", url, {"authorization": f"Bearer {self.stream_token}"})

    def files(self, method: str, url: str, headers: Mapping[str, str], body: bytes, key: str) -> Exchange:
        """Send a request to Azure Files, signed with the account's key."""
        now = format_datetime(datetime.datetime.now(datetime.UTC), usegmt=True)
        sent = {**headers, "x-ms-date": now}
        if method == "PUT":
            sent["content-length"] = str(len(body))
        sent["authorization"] = _signature(method, url, sent, key)
        return self.send(method, url, sent, body)

    def send(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Exchange:
        """Send a request as it is."""
        answer = self._http.request(method, url, headers=dict(headers or {}), content=body)
        found = {name.lower(): value for name, value in answer.headers.items()}
        return Exchange(
            "now", "", method, url, answer.status_code, dict(headers or {}), body, found, answer.content
        )


_SIGNED = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


def _signature(method: str, url: str, headers: Mapping[str, str], key: str) -> str:
    """Return the signature as in "Authorize with Shared Key" of the REST reference."""
    parts = urlsplit(url)
    account = parts.netloc.split(".")[0]
    values = [headers.get(name, "") for name in _SIGNED]
    lines = [method, *("" if value == "0" else value for value in values)]
    lines += [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
    lines.append(f"/{account}{parts.path}")
    query = parse_qsl(parts.query, keep_blank_values=True)
    lines += [f"{name.lower()}:{value}" for name, value in sorted(query)]
    mark = hmac.digest(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256)
    return f"SharedKey {account}:{base64.b64encode(mark).decode()}"
