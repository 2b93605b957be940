"""The TLS context of all HTTP clients: the certificates that the environment trusts."""

from __future__ import annotations

import os
import ssl
from functools import cache
from pathlib import Path

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def tls_context() -> ssl.SSLContext:
    """Return the TLS context of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else of the bundle that the Azure SDK
    reads: ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``, which a company's proxy requires.

    Loading certificates costs 20 ms, most of a short local request, so each choice is loaded once.
    """
    return _context(*map(os.environ.get, _VARIABLES))


@cache
def _context(file: str | None, folder: str | None, *bundles: str | None) -> ssl.SSLContext:
    bundle = next((one for one in bundles if one), None)
    if file or folder or not bundle:
        import httpx

        return httpx.create_ssl_context()
    if Path(bundle).is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
