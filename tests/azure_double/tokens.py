"""login.microsoftonline.com: issues tokens for client credentials, and expires them."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from .http import Refused, Request, Response

HOST = "login.microsoftonline.com"
TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT_ID = "22222222-3333-4444-5555-666666666666"
OBJECT_ID = "33333333-4444-5555-6666-777777777777"


@dataclass
class Token:
    """One issued access token."""

    audience: str
    tenant: str
    expires: float


class Tokens:
    """Issues and validates tokens."""

    def __init__(self) -> None:
        self.client_secret = "double-" + secrets.token_urlsafe(24)
        self.lifetime = 3599
        """Real seconds that a new token lives."""
        self._given: dict[str, Token] = {}
        self._lock = threading.Lock()

    def expire_all(self) -> None:
        """Expire every issued token."""
        with self._lock:
            for token in self._given.values():
                token.expires = 0

    def require(self, request: Request) -> Token:
        """Return the token that a request carries, or refuse as ARM does."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not value:
            raise Refused(
                401,
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing.",
                headers=_challenge(
                    "invalid_token", "The authentication failed because of missing 'Authorization' header."
                ),
            )
        with self._lock:
            token = self._given.get(value)
        if token is None:
            raise Refused(
                401,
                "InvalidAuthenticationToken",
                "The access token is invalid.",
                headers=_challenge("invalid_token", "The access token is invalid."),
            )
        if token.expires < time.time():
            raise Refused(
                401,
                "ExpiredAuthenticationToken",
                "The access token expiry UTC time is earlier than current UTC time.",
                headers=_challenge("invalid_token", "The access token has expired."),
            )
        return token

    def handle(self, request: Request) -> Response:
        """Answer the login host."""
        path = request.decoded_path.lower()
        if path.endswith("/.well-known/openid-configuration"):
            return Response.of(_configuration(request.decoded_path.split("/")[1]))
        if path.endswith("/discovery/instance"):
            return Response.of(_instance(request.query.get("authorization_endpoint", "")))
        if request.method == "POST" and path.endswith("/oauth2/v2.0/token"):
            form = {name: values[0] for name, values in parse_qs(request.read().decode()).items()}
            return self._token(request.decoded_path.split("/")[1], form)
        raise Refused(404, "NotFound", "There is nothing here.")

    def _token(self, tenant: str, form: dict[str, str]) -> Response:
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(
                400, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type."
            )
        if tenant.lower() != TENANT:
            return _oauth_error(400, "invalid_request", f"AADSTS90002: Tenant '{tenant}' not found.")
        if form.get("client_id") != CLIENT_ID:
            return _oauth_error(
                400,
                "unauthorized_client",
                f"AADSTS700016: Application '{form.get('client_id')}' was not found in the directory.",
            )
        if form.get("client_secret") != self.client_secret:
            return _oauth_error(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
        audience = form.get("scope", "").removesuffix("/.default")
        return Response.of(
            {
                "token_type": "Bearer",
                "expires_in": self.lifetime,
                "ext_expires_in": self.lifetime,
                "access_token": self.issue(audience),
            }
        )

    def issue(self, audience: str) -> str:
        """Return a new token in the form of a JWT, since clients may read its claims."""
        now = int(time.time())
        claims = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": now,
            "exp": now + self.lifetime,
            "appid": CLIENT_ID,
            "oid": OBJECT_ID,
            "tid": TENANT,
            "idtyp": "app",
        }
        token = ".".join([_part({"typ": "JWT", "alg": "RS256"}), _part(claims), secrets.token_urlsafe(32)])
        with self._lock:
            self._given[token] = Token(audience, TENANT, now + self.lifetime)
        return token


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _challenge(error: str, description: str) -> dict[str, str]:
    return {
        "www-authenticate": f'Bearer authorization_uri="https://login.windows.net/{TENANT}", '
        f'error="{error}", error_description="{description}"'
    }


def _oauth_error(status: int, error: str, description: str) -> Response:
    number = int(description.split(":")[0].removeprefix("AADSTS"))
    return Response.of(
        {
            "error": error,
            "error_description": description,
            "error_codes": [number],
            "trace_id": secrets.token_hex(16),
            "correlation_id": secrets.token_hex(16),
        },
        status,
    )


def _configuration(tenant: str) -> dict[str, Any]:
    base = f"https://{HOST}/{tenant}"
    return {
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        "issuer": f"{base}/v2.0",
        "jwks_uri": f"{base}/discovery/v2.0/keys",
        "tenant_region_scope": "NA",
        "cloud_instance_name": "microsoftonline.com",
    }


def _instance(endpoint: str) -> dict[str, Any]:
    tenant = endpoint.split("/")[3] if endpoint.count("/") > 3 else "common"
    aliases = [HOST, "login.windows.net", "login.microsoft.com", "sts.windows.net"]
    return {
        "tenant_discovery_endpoint": f"https://{HOST}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": HOST, "preferred_cache": "login.windows.net", "aliases": aliases}],
    }
