"""Authorization of Azure Files: a verified signature with the account key, or a token with the role."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from .http import Refused, Request
from .share_answers import StorageError
from .tokens import TENANT, Tokens

AUDIENCE = "https://storage.azure.com"
_SIGNED = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


def new_key() -> str:
    """Return a storage account key."""
    return base64.b64encode(secrets.token_bytes(64)).decode()


@dataclass
class Account:
    """The access settings of a storage account's data plane."""

    name: str
    keys: list[str] = field(default_factory=lambda: [new_key(), new_key()])
    shared_key_access: bool = True
    backup_role: bool = False
    """Whether the signed-in client has the role *Storage File Data Privileged Contributor*."""
    firewall: bool = False
    """Whether the firewall keeps this network out."""

    def rotate(self, index: int = 0) -> str:
        """Replace a key; signatures with the old one are refused."""
        self.keys[index] = new_key()
        return self.keys[index]


def check(request: Request, account: Account, tokens: Tokens) -> None:
    """Let a request through, or refuse it as the service does."""
    if account.firewall:
        raise StorageError(403, "AuthorizationFailure")
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme == "Bearer":
        _check_token(request, account, tokens)
    elif scheme == "SharedKey":
        _check_key(request, account, value)
    else:
        raise StorageError(401, "InvalidAuthenticationInfo", _challenge())


def _check_token(request: Request, account: Account, tokens: Tokens) -> None:
    try:
        token = tokens.require(request)
    except Refused as refused:
        raise StorageError(401, "InvalidAuthenticationInfo", _challenge()) from refused
    if token.audience.rstrip("/") != AUDIENCE:
        raise StorageError(401, "InvalidAuthenticationInfo", _challenge())
    if request.headers.get("x-ms-file-request-intent") != "backup":
        raise StorageError(400, "MissingRequiredHeader")
    if not account.backup_role:
        raise StorageError(403, "AuthorizationPermissionMismatch")


def _check_key(request: Request, account: Account, value: str) -> None:
    name, _, signature = value.partition(":")
    text = _text_to_sign(request, account.name)
    good = [_sign(key, text) for key in account.keys]
    if name != account.name or not any(hmac.compare_digest(signature, known) for known in good):
        raise StorageError(403, "AuthenticationFailed")
    if not account.shared_key_access:
        raise StorageError(403, "KeyBasedAuthenticationNotPermitted")


def _text_to_sign(request: Request, account: str) -> str:
    headers = {**request.headers}
    if headers.get("content-length") == "0":
        headers["content-length"] = ""
    lines = [request.method, *(headers.get(name, "") for name in _SIGNED)]
    extra = sorted((name for name in headers if name.startswith("x-ms-")), key=_header_order)
    lines += [f"{name}:{headers[name]}" for name in extra]
    lines.append(f"/{account}{request.path}")
    lines += [f"{name.lower()}:{value}" for name, value in sorted(request.query.items())]
    return "\n".join(lines)


def _header_order(name: str) -> tuple[str, str]:
    """The service's order of names: hyphens count only between names that are the same without them."""
    return name.replace("-", "").replace("_", " "), name


def _sign(key: str, text: str) -> str:
    return base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)).decode()


def _challenge() -> dict[str, str]:
    place = f"https://login.microsoftonline.com/{TENANT}/oauth2/authorize"
    return {"www-authenticate": f"Bearer authorization_uri={place} resource_id={AUDIENCE}"}
