"""The credential that all clients of this process share; it never prompts for a sign-in."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nbtoolkit.azure.auth.credential_sources import (
    CredentialSource,
    Unavailable,
    failure_reason,
    get_token,
    sources,
)
from nbtoolkit.azure.sdk import ARM_SCOPE, import_from
from nbtoolkit.errors import MissingDependency, NotSignedIn

_TRANSIENT = re.compile(r"HTTP Error: (429|5\d\d)|no answer in|onnection|imed out|Max retries", re.IGNORECASE)
"""Messages of a token service that is unreachable or fails; a refusal has others."""
_PUBLIC = ("login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net")
REFRESH_BEFORE_EXPIRY = 300
"""Seconds before its expiry at which a token is requested again."""


@dataclass(frozen=True)
class SignedIn:
    """The signed-in account, and the credential source that it comes from."""

    account: str
    tenant: str
    source: str

    def __str__(self) -> str:
        return f"signed in as {self.account} (tenant {self.tenant}), from: {self.source}"


class SharedCredential:
    """A credential for the SDK that tries its sources once and keeps the first that works.

    Tokens are cached in memory until shortly before they expire, so that many clients cost one request. Safe
    to use from many threads: one of them requests, the others wait for its result. Raises
    :class:`NotSignedIn`, which names every source with its reason (``reasons``).
    """

    def __init__(self, list_sources: Callable[[], tuple[CredentialSource, ...]] = sources) -> None:
        self._list_sources = list_sources
        self._chosen: tuple[CredentialSource, Any] | None = None
        self._tokens: dict[tuple[tuple[str, ...], str], Any] = {}
        self._failed: tuple[float, NotSignedIn] | None = None
        self._by_hand = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"SharedCredential({self.source or 'no token yet'})"

    @property
    def source(self) -> str | None:
        """The name of the source in use; None before the first token."""
        return self._chosen[0].name if self._chosen else None

    def use(self, name: str, credential: Any) -> None:
        """Use this credential from now on, after an interactive sign-in with it."""
        with self._lock:
            self._chosen = (CredentialSource(name, lambda: credential, timeout=30), credential)
            self._by_hand = True
            self._tokens.clear()

    def get_token(self, *scopes: str, **options: Any) -> Any:
        """Return a token in the format of the SDK's older protocol."""
        info = self.get_token_info(*scopes, options=options)
        return import_from("azure.core.credentials", "AccessToken")(info.token, info.expires_on)

    def get_token_info(self, *scopes: str, options: Mapping[str, Any] | None = None) -> Any:
        """Return a token for ``scopes``; never prompts. The sources' timeouts limit its duration."""
        # The SDK has two caches; a sign-in fills the one for continuous access evaluation (CAE).
        options_with_cae = {
            key: value for key, value in {**(options or {}), "enable_cae": True}.items() if value
        }
        key = (scopes, str(options_with_cae.get("tenant_id", "")))
        started = time.monotonic()
        with self._lock:
            cached = None if options_with_cae.get("claims") else self._tokens.get(key)
            if cached is not None and cached.expires_on - REFRESH_BEFORE_EXPIRY > time.time():
                return cached
            if self._failed is not None and self._failed[0] >= started:
                raise self._failed[1]  # another thread has tried all sources while this one waited
            found = self._request_token(scopes, options_with_cae)
            self._tokens[key] = found
            return found

    def forget(self, refused: str) -> None:
        """Drop a token that Azure refused, and the source that may have cached it."""
        with self._lock:
            if not any(cached.token == refused for cached in self._tokens.values()):
                return  # another thread has dropped it
            self._tokens.clear()
            if not self._by_hand:
                self._chosen = None

    def close(self) -> None:
        """Do nothing: the process keeps its sign-in."""

    def _request_token(self, scopes: tuple[str, ...], options: dict[str, Any]) -> Any:
        check_cloud(os.environ)
        reasons: dict[str, str] = {}
        for source in (self._chosen[0],) if self._chosen else self._list_sources():
            began = time.monotonic()
            try:
                credential = self._chosen[1] if self._chosen else source.make()
                found = get_token(credential, scopes, options, source.timeout)
            except Unavailable as error:
                reasons[source.name] = str(error)
            except (MissingDependency, AttributeError, NameError):
                raise  # not a refusal
            except Exception as error:
                if self._chosen is not None:
                    raise _not_signed_in({source.name: failure_reason(error)}) from error
                took = time.monotonic() - began
                slow = f" (after {took:.0f} s)" if took >= 2 and not isinstance(error, TimeoutError) else ""
                reasons[source.name] = failure_reason(error) + slow
                if source.binding:
                    break
            else:
                self._chosen = (source, credential)
                return found
        error = _not_signed_in(reasons)
        self._failed = (time.monotonic(), error)
        raise error


def check_cloud(environment: Mapping[str, str]) -> None:
    """Raise :class:`NotSignedIn` if the environment selects another cloud than the public Azure."""
    authority = environment.get("AZURE_AUTHORITY_HOST", "").strip()
    host = urlsplit(authority if "://" in authority else f"https://{authority}").hostname or ""
    if host and host not in _PUBLIC:
        raise NotSignedIn(
            f"AZURE_AUTHORITY_HOST names {host}, which signs in to another cloud than the public Azure; "
            "nbtoolkit supports the public Azure only.",
            next_step="remove AZURE_AUTHORITY_HOST and sign in to the public Azure",
            status=401,
            code="ForeignCloud",
            reasons={"environment": f"AZURE_AUTHORITY_HOST is {host}"},
        )


def credential() -> SharedCredential:
    """Return the credential of this process; sends no request yet."""
    global _shared
    with _sharing:
        _shared = _shared or SharedCredential()
        return _shared


def signed_in_as() -> SignedIn:
    """Return the signed-in account; raises :class:`NotSignedIn`. Requests a token if there is none yet."""
    shared = credential()
    return account_of_token(shared.get_token_info(ARM_SCOPE).token, shared.source or "unknown")


def account_of_token(token: str, source: str) -> SignedIn:
    """Return the account of a token; "unknown account" if the token cannot be parsed."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, IndexError):
        claims = {}
    if not isinstance(claims, dict):
        claims = {}
    names = ("upn", "unique_name", "preferred_username", "email", "app_displayname")
    account = next((str(claims[name]) for name in names if claims.get(name)), "")
    if not account and claims.get("appid"):
        account = f"application {claims['appid']}"
    return SignedIn(account or "unknown account", str(claims.get("tid") or "unknown"), source)


def _not_signed_in(reasons: dict[str, str]) -> NotSignedIn:
    lines = "".join(f"\n  {name}: {text}" for name, text in reasons.items())
    if "environment" in reasons and len(reasons) == 1:
        step = "correct these environment variables, or remove them to use another sign-in"
        if _TRANSIENT.search(reasons["environment"]):
            step = "run the step again in a few minutes; check the network and the proxy (HTTPS_PROXY)"
    else:
        step = (
            "press Sign in in nbtoolkit.widgets.SignIn(), or run: az login; for headless runs set "
            "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
        )
    return NotSignedIn(
        f"Not signed in to Azure.{lines}",
        next_step=step,
        reasons=reasons,
        status=401,
        code="NotSignedIn",
    )


_shared: SharedCredential | None = None
_sharing = threading.Lock()
