"""Many connections to one host, and little work for each request over them."""

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

MOST = 64


def transport(url: str) -> Any:
    """Return the SDK's transport for the host of a URL; proxy and certificates are the environment's."""
    session = _Session()
    found: Any = session.merge_environment_settings(url, {}, None, None, None)
    session.mount("https://", _Adapter(_trusting(found["verify"])))
    session.proxies, session.trust_env = found["proxies"], False
    return DrainingTransport(
        session=session,
        use_env_settings=False,
        connection_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        connection_cert=found["cert"],
    )


def _trusting(verify: bool | str) -> ssl.SSLContext:
    """Return what TLS connections trust, loaded once: for each of many connections that took 20 ms."""
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
    """Send what the SDK has prepared as it is.

    Small files cost this process more time than the wire; a third of what a request took here went into
    looking up the proxy again and preparing anew what the SDK had prepared.
    """

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send one request; cookies, redirects and hooks there are none."""
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url, prepared.body = method, url, options.get("data")
        prepared.headers = CaseInsensitiveDict(options["headers"])
        prepared.hooks = {"response": []}
        answer = self.get_adapter(url).send(
            prepared,
            stream=options.get("stream", False),
            timeout=options.get("timeout"),
            verify=options.get("verify", True),
            cert=options.get("cert"),
            proxies=self.proxies,
        )
        if not options.get("stream"):
            answer.content  # noqa: B018  reads it, so that the connection is free again
        return answer


class _Adapter(HTTPAdapter):
    def __init__(self, trusted: ssl.SSLContext) -> None:
        self._trusted = trusted
        self._pools: dict[str, Any] = {}
        super().__init__(pool_maxsize=MOST)

    def init_poolmanager(self, *settings: Any, **options: Any) -> None:
        """Let all connections trust the same."""
        super().init_poolmanager(*settings, ssl_context=self._trusted, **options)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave a connection's certificates alone: it would load them again."""

    def get_connection_with_tls_context(self, request: Any, *settings: Any, **options: Any) -> Any:
        """Return the connections to a host; its proxy and certificates are worked out once."""
        host = request.url.split("/", 3)[2]
        if host not in self._pools:
            self._pools[host] = super().get_connection_with_tls_context(request, *settings, **options)
        return self._pools[host]

    def close(self) -> None:
        """Close all connections; what is asked later opens new ones."""
        self._pools.clear()
        super().close()

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        """Send a body right after its head; by default it waits for the proxy's acknowledgement, 40 ms."""
        at_once = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        trusted = {"ssl_context": self._trusted, "proxy_ssl_context": self._trusted}
        return super().proxy_manager_for(proxy, **{"socket_options": at_once, **trusted, **options})
