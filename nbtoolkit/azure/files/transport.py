"""HTTP transport of Azure Files: many connections to one host, little work per request."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.certs import where
from requests.structures import CaseInsensitiveDict
from urllib3.util import create_urllib3_context

from nbtoolkit.azure.pipeline import DrainingTransport
from nbtoolkit.azure.sdk import CONNECT_TIMEOUT, READ_TIMEOUT
from nbtoolkit.errors import StoreError

MAX_CONNECTIONS = 64


def make_transport(url: str) -> Any:
    """Return a transport for the host of a URL; proxy and certificates are those of the environment."""
    session = _Session()
    found: Any = session.merge_environment_settings(url, {}, None, None, None)
    session.mount("https://", _Adapter(_tls_context(found["verify"])))
    session.proxies, session.trust_env = found["proxies"], False
    return DrainingTransport(
        session=session,
        use_env_settings=False,
        connection_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        connection_cert=found["cert"],
    )


def _tls_context(verify: bool | str) -> ssl.SSLContext:
    """Return the trusted certificates, loaded once: loading them costs 20 ms per connection."""
    named = where() if verify is True else str(verify)
    context = create_urllib3_context()
    try:
        if Path(named).is_dir():
            context.load_verify_locations(capath=named)
        else:
            context.load_verify_locations(cafile=named)
    except OSError as error:
        raise StoreError(
            f"The certificates in {named} cannot be loaded: {error.strerror or error}.",
            next_step="correct REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, which name them",
        ) from error
    return context


class _Session(requests.Session):
    """Send the request that the SDK prepared without preparing it again.

    With small files this process is slower than the network. A third of the time per request went into
    looking up the proxy and preparing the request a second time, so both are done once.
    """

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send one request, without cookies, redirects and hooks."""
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url, prepared.body = method, url, options.get("data")
        prepared.headers = CaseInsensitiveDict(options["headers"])
        prepared.hooks = {"response": []}
        response = self.get_adapter(url).send(
            prepared,
            stream=options.get("stream", False),
            timeout=options.get("timeout"),
            verify=options.get("verify", True),
            cert=options.get("cert"),
            proxies=self.proxies,
        )
        if not options.get("stream"):
            response.content  # noqa: B018  reads the body, so that the connection returns to the pool
        return response


class _Adapter(HTTPAdapter):
    def __init__(self, trusted: ssl.SSLContext) -> None:
        self._trusted = trusted
        self._pools: dict[str, Any] = {}
        super().__init__(pool_maxsize=MAX_CONNECTIONS)

    def init_poolmanager(self, *settings: Any, **options: Any) -> None:
        """Use one TLS context for all connections."""
        super().init_poolmanager(*settings, ssl_context=self._trusted, **options)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: the default loads the certificates again for each connection."""

    def get_connection_with_tls_context(self, request: Any, *settings: Any, **options: Any) -> Any:
        """Return the pool of a host; its proxy and certificates are resolved once."""
        host = request.url.split("/", 3)[2]
        if host not in self._pools:
            self._pools[host] = super().get_connection_with_tls_context(request, *settings, **options)
        return self._pools[host]

    def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        self._pools.clear()
        super().close()

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        """Send a body right after its headers; by default it waits 40 ms for the proxy's acknowledgement."""
        no_delay = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        trusted = {"ssl_context": self._trusted, "proxy_ssl_context": self._trusted}
        return super().proxy_manager_for(proxy, **{"socket_options": no_delay, **trusted, **options})
