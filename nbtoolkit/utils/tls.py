"""Which certificates this machine trusts, for every HTTP client of ours alike."""

from __future__ import annotations

import os
import ssl
from functools import cache
from pathlib import Path

_OURS = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_THEIRS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def tls_context() -> ssl.SSLContext:
    """Return what the environment trusts: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else ``REQUESTS_CA_BUNDLE``
    or ``CURL_CA_BUNDLE``, which a company's proxy needs and which the Azure SDK and ``az`` read.

    Loading them costs 20 ms, most of a short local request, so each choice is loaded once.
    """
    return _context(*(os.environ.get(name) for name in (*_OURS, *_THEIRS)))


@cache
def _context(file: str | None, folder: str | None, *bundles: str | None) -> ssl.SSLContext:
    bundle = next((one for one in bundles if one), None)
    if file or folder or not bundle:
        import httpx

        return httpx.create_ssl_context()
    where = Path(bundle)
    return ssl.create_default_context(
        cafile=None if where.is_dir() else bundle, capath=bundle if where.is_dir() else None
    )
