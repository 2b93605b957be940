"""Where a token for Azure may come from: a few sources, tried in order and within a time limit each."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nbtoolkit.azure.auth import account_store as account
from nbtoolkit.azure.sdk import import_from

# What these libraries would log as warnings reaches the user as an error with a next step.
logging.getLogger("azure.identity").addHandler(logging.NullHandler())

_SERVICE_PRINCIPAL = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID")
_PROOFS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH")
_HOSTED = ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE")
_LONGEST_REASON = 240


class Unavailable(Exception):
    """This source has nothing to offer here; the text says why."""


@dataclass(frozen=True)
class CredentialSource:
    """One place where a token may come from.

    ``make`` returns a credential of the SDK, or raises :class:`Unavailable`. ``limit`` is in seconds.
    ``binding`` is for a source that is only there where somebody chose it: when it fails, no other account
    is taken in its place.
    """

    name: str
    make: Callable[[], Any] = field(repr=False)
    limit: float
    binding: bool = False


def sources() -> tuple[CredentialSource, ...]:
    """Return the sources in the order in which they are tried; none of them asks anybody anything."""
    hosted = any(os.environ.get(name) for name in _HOSTED)
    return (
        CredentialSource("environment", _environment, limit=20, binding=True),
        CredentialSource("managed identity", _managed_identity, limit=10 if hosted else 3),
        CredentialSource("Azure CLI", _cli, limit=15),
        CredentialSource("earlier sign-in", _earlier, limit=10),
    )


def _environment() -> Any:
    missing = [name for name in _SERVICE_PRINCIPAL if not os.environ.get(name)]
    if not any(os.environ.get(name) for name in _PROOFS):
        missing.append(_PROOFS[0])
    if missing:
        raise Unavailable(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
    return import_from("azure.identity", "EnvironmentCredential")()


def _managed_identity() -> Any:
    # Only inside a chain does the SDK look first whether there is an identity service, which takes a second.
    identity = import_from("azure.identity", "ManagedIdentityCredential")(
        client_id=os.environ.get("AZURE_CLIENT_ID")
    )
    return import_from("azure.identity", "ChainedTokenCredential")(identity)


def _cli() -> Any:
    return import_from("azure.identity", "AzureCliCredential")(process_timeout=15)


def _earlier() -> Any:
    record = account.read()
    if record is None:
        raise Unavailable("nobody has signed in here yet")
    return account.credential(record)


def token(credential: Any, scopes: tuple[str, ...], options: dict[str, Any], limit: float) -> Any:
    """Return a token of the SDK's kind, or raise what the source raised; TimeoutError after ``limit`` s.

    A source that hangs is left to a thread of its own: none can be stopped from outside.
    """
    answer: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(_token(credential, scopes, options))
        except BaseException as error:  # noqa: BLE001 - raised again by the caller, in its own thread
            failure.append(error)

    worker = threading.Thread(target=work, name="nbtoolkit-token", daemon=True)
    worker.start()
    worker.join(limit)
    if failure:
        raise failure[0]
    if not answer:
        raise TimeoutError(f"no answer in {limit:g} s")
    return answer[0]


def _token(credential: Any, scopes: tuple[str, ...], options: dict[str, Any]) -> Any:
    informed = getattr(credential, "get_token_info", None)
    if informed is not None:
        return informed(*scopes, options=options)
    plain = credential.get_token(*scopes, **options)
    return import_from("azure.core.credentials", "AccessTokenInfo")(plain.token, plain.expires_on)


def reason(error: BaseException) -> str:
    """Return in one line why a source gave nothing, without what only a log wants and without secrets."""
    if type(error).__name__ == "AuthenticationRequiredError":
        code = re.search(r"AADSTS\d+", str(error))
        return f"that sign-in has ended{f' ({code[0]})' if code else ''}; sign in again"
    said = str(getattr(error, "message", "") or error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    text = _chained(lines) or (lines[0] if lines else type(error).__name__)
    text = re.split(r"\s*(?:Trace ID:|Visit https|To mitigate)", text)[0]
    text = re.sub(r"^(\w+Credential\.\w+ failed: |\w+Credential: |\w+Credential authentication )+", "", text)
    text = re.sub(r"^unavailable[.,:] ", "", text)
    for name in ("AZURE_CLIENT_SECRET", "AZURE_PASSWORD", "AZURE_CLIENT_CERTIFICATE_PASSWORD"):
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    text = text.strip().rstrip(".")
    if text in ("", "unavailable"):
        return "there is none here"
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def _chained(lines: list[str]) -> str:
    """Return what the one member of a chain said."""
    heads = [n for n, line in enumerate(lines) if line.startswith("Attempted credentials")]
    return lines[heads[0] + 1] if heads and heads[0] + 1 < len(lines) else ""
