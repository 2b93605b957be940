"""One sign-in for the whole process, fetched once; no call ever asks somebody to sign in."""

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

from nbtoolkit.azure.auth import credential_sources as credentials
from nbtoolkit.azure.auth.credential_sources import CredentialSource, Unavailable
from nbtoolkit.azure.sdk import ARM_SCOPE, import_from
from nbtoolkit.errors import MissingDependency, NotSignedIn

_FOR_A_WHILE = re.compile(
    r"HTTP Error: (429|5\d\d)|no answer in|onnection|imed out|Max retries", re.IGNORECASE
)
"""What a source says that was not refused: whoever gives the tokens is out of reach or fails."""
_PUBLIC = ("login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net")
EARLY = 300
"""Seconds before its end at which a token is fetched anew."""


@dataclass(frozen=True)
class SignedIn:
    """Who is signed in, and which source said so."""

    account: str
    tenant: str
    source: str

    def __str__(self) -> str:
        return f"signed in as {self.account} (tenant {self.tenant}), from: {self.source}"


class SharedCredential:
    """A credential for the SDK that asks the sources once and then stays with the one that answered.

    Tokens are kept in memory until shortly before they end, so that many clients cost one request. Safe to
    use from many threads: one of them asks, the others wait for its answer. Raises :class:`NotSignedIn`,
    which names every source with its reason (``reasons``).
    """

    def __init__(self, sources: Callable[[], tuple[CredentialSource, ...]] = credentials.sources) -> None:
        self._sources = sources
        self._chosen: tuple[CredentialSource, Any] | None = None
        self._tokens: dict[tuple[tuple[str, ...], str], Any] = {}
        self._failed: tuple[float, NotSignedIn] | None = None
        self._by_hand = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"SharedCredential({self.source or 'nothing asked yet'})"

    @property
    def source(self) -> str | None:
        """The name of the source that answered; None before the first token."""
        return self._chosen[0].name if self._chosen else None

    def use(self, name: str, credential: Any) -> None:
        """Take tokens from this credential from now on; somebody has just signed in with it."""
        with self._lock:
            self._chosen = (CredentialSource(name, lambda: credential, limit=30), credential)
            self._by_hand = True
            self._tokens.clear()

    def get_token(self, *scopes: str, **options: Any) -> Any:
        """Return a token as the older of the SDK's protocols wants it."""
        info = self.get_token_info(*scopes, options=options)
        return import_from("azure.core.credentials", "AccessToken")(info.token, info.expires_on)

    def get_token_info(self, *scopes: str, options: Mapping[str, Any] | None = None) -> Any:
        """Return a token for ``scopes``; asks nobody, and takes no longer than the sources' limits."""
        # The SDK keeps two caches; a sign-in fills the one for clients that understand early revocation.
        wanted = {key: value for key, value in {**(options or {}), "enable_cae": True}.items() if value}
        key = (scopes, str(wanted.get("tenant_id", "")))
        asked = time.monotonic()
        with self._lock:
            kept = None if wanted.get("claims") else self._tokens.get(key)
            if kept is not None and kept.expires_on - EARLY > time.time():
                return kept
            if self._failed is not None and self._failed[0] >= asked:
                raise self._failed[1]  # another thread has asked them all while this one waited
            found = self._ask(scopes, wanted)
            self._tokens[key] = found
            return found

    def forget(self, refused: str) -> None:
        """Drop a token that Azure has refused, and what may have kept it; the next one is asked for anew."""
        with self._lock:
            if not any(kept.token == refused for kept in self._tokens.values()):
                return  # another thread was here first
            self._tokens.clear()
            if not self._by_hand:
                self._chosen = None

    def close(self) -> None:
        """Do nothing: the process keeps its sign-in."""

    def _ask(self, scopes: tuple[str, ...], options: dict[str, Any]) -> Any:
        check_cloud(os.environ)
        if self._chosen is not None:
            source, credential = self._chosen
            try:
                return credentials.token(credential, scopes, options, source.limit)
            except Exception as error:
                self._raise_unforeseen(error)
                raise _not_signed_in({source.name: credentials.reason(error)}) from error
        reasons: dict[str, str] = {}
        for source in self._sources():
            began = time.monotonic()
            try:
                credential = source.make()
                found = credentials.token(credential, scopes, options, source.limit)
            except Unavailable as error:
                reasons[source.name] = str(error)
                continue
            except Exception as error:  # noqa: BLE001 - the SDK's sources raise errors of many kinds
                self._raise_unforeseen(error)
                took = time.monotonic() - began
                slow = f" (after {took:.0f} s)" if took >= 2 and not isinstance(error, TimeoutError) else ""
                reasons[source.name] = credentials.reason(error) + slow
                if source.binding:
                    break
                continue
            self._chosen = (source, credential)
            return found
        error = _not_signed_in(reasons)
        self._failed = (time.monotonic(), error)
        raise error

    @staticmethod
    def _raise_unforeseen(error: Exception) -> None:
        if isinstance(error, MissingDependency | AttributeError | NameError):
            raise error


def check_cloud(environment: Mapping[str, str]) -> None:
    """Raise :class:`NotSignedIn` where the environment chooses another cloud than the public one."""
    authority = environment.get("AZURE_AUTHORITY_HOST", "").strip()
    host = urlsplit(authority if "://" in authority else f"https://{authority}").hostname or ""
    if host and host not in _PUBLIC:
        raise NotSignedIn(
            f"AZURE_AUTHORITY_HOST names {host}, which signs in to another cloud than the public Azure, and "
            "nbtoolkit knows the hosts of that one only.",
            next_step="remove AZURE_AUTHORITY_HOST and sign in to the public Azure",
            status=401,
            code="ForeignCloud",
            reasons={"environment": f"AZURE_AUTHORITY_HOST is {host}"},
        )


def credential() -> SharedCredential:
    """Return the one credential of this process; asks nothing yet."""
    global _shared
    with _sharing:
        _shared = _shared or SharedCredential()
        return _shared


def signed_in_as() -> SignedIn:
    """Tell who is signed in; raises :class:`NotSignedIn`. Costs a token where none is there yet."""
    shared = credential()
    return whose(shared.get_token_info(ARM_SCOPE).token, shared.source or "unknown")


def whose(token: str, source: str) -> SignedIn:
    """Return whom a token was made for; a token that cannot be read belongs to an unknown account."""
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
        if _FOR_A_WHILE.search(reasons["environment"]):
            step = "run the step again in a few minutes; look at the network and the proxy (HTTPS_PROXY)"
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
