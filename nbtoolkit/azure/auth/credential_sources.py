"""Credential sources for Azure, tried in order, and the stored account of an interactive sign-in."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbtoolkit.azure.sdk import import_from
from nbtoolkit.errors import StoreError
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.utils.threads import CallTimeout, run_cancellable

# The SDK logs failed sources as warnings; they reach the user as an error with a next step.
logging.getLogger("azure.identity").addHandler(logging.NullHandler())

_SERVICE_PRINCIPAL = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID")
_PROOFS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH")
_HOSTED = ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE")
_LONGEST_REASON = 240


class Unavailable(Exception):
    """This source cannot be used here; the text gives the reason."""


@dataclass(frozen=True)
class CredentialSource:
    """One source of tokens.

    ``make`` returns a credential of the SDK, or raises :class:`Unavailable`. ``timeout`` is in
    seconds. ``binding`` marks a source that the user configured on purpose: if it fails, no other account
    is used instead.
    """

    name: str
    make: Callable[[], Any] = field(repr=False)
    timeout: float
    binding: bool = False


def sources() -> tuple[CredentialSource, ...]:
    """Return the sources in the order in which they are tried; none of them prompts."""
    hosted = any(os.environ.get(name) for name in _HOSTED)
    return (
        CredentialSource("environment", _environment, timeout=20, binding=True),
        CredentialSource("managed identity", _managed_identity, timeout=10 if hosted else 3),
        CredentialSource("Azure CLI", _cli, timeout=15),
        CredentialSource("earlier sign-in", _earlier_sign_in, timeout=10),
    )


def _environment() -> Any:
    missing = [name for name in _SERVICE_PRINCIPAL if not os.environ.get(name)]
    if not any(os.environ.get(name) for name in _PROOFS):
        missing.append(_PROOFS[0])
    if missing:
        raise Unavailable(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
    return import_from("azure.identity", "EnvironmentCredential")()


def _managed_identity() -> Any:
    # Only within a chain does the SDK first probe for an identity service, which takes a second.
    identity = import_from("azure.identity", "ManagedIdentityCredential")(
        client_id=os.environ.get("AZURE_CLIENT_ID")
    )
    return import_from("azure.identity", "ChainedTokenCredential")(identity)


def _cli() -> Any:
    return import_from("azure.identity", "AzureCliCredential")(process_timeout=15)


def _earlier_sign_in() -> Any:
    record = read_account()
    if record is None:
        raise Unavailable("there was no interactive sign-in yet")
    return account_credential(record)


def record_path() -> Path:
    """Return the path of the account of the last interactive sign-in, stored for all kernels of this user.

    The record names the account and holds no secret. Tokens are in the cache of the SDK: the system's key
    store if there is one, else a file that only its owner may read. Neither is in a workspace.
    """
    folder = import_from("platformdirs", "user_config_dir")("nbtoolkit", appauthor=False, roaming=True)
    return Path(folder) / "azure-account.json"


def read_account() -> Any | None:
    """Return the SDK's record of the account; None if there is none or it is damaged."""
    try:
        text = record_path().read_text(encoding="utf-8")
        return import_from("azure.identity", "AuthenticationRecord").deserialize(text)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the next sign-in writes it again


def write_account(record: Any) -> None:
    """Store the account for the next kernel; raises :class:`StoreError` if that fails."""
    path = record_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, record.serialize().encode())
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.",
            next_step="make that folder writable; until then every kernel must sign in separately",
            path=path,
        ) from error


def account_credential(record: Any, transport: Any = None) -> Any:
    """Return a credential that reads the account's tokens from the cache and never prompts."""
    options = {} if transport is None else {"transport": transport}
    return import_from("azure.identity", "DeviceCodeCredential")(
        authentication_record=record,
        disable_automatic_authentication=True,
        cache_persistence_options=cache_options(),
        **options,
    )


def cache_options() -> Any:
    """Return the SDK's options for a token cache that kernels share.

    Without a key store, as on most servers, tokens are in a file of mode 0600, as with the Azure CLI.
    """
    return import_from("azure.identity", "TokenCachePersistenceOptions")(
        name="nbtoolkit", allow_unencrypted_storage=True
    )


def get_token(credential: Any, scopes: tuple[str, ...], options: dict[str, Any], timeout: float) -> Any:
    """Return an ``AccessTokenInfo``, or raise the source's error; TimeoutError after ``timeout`` seconds.

    A source that hangs continues in its own daemon thread: none can be stopped.
    """
    try:
        return run_cancellable(None, lambda: credential.get_token_info(*scopes, options=options), timeout)
    except CallTimeout:
        raise TimeoutError(f"no answer in {timeout:g} s") from None


def failure_reason(error: BaseException) -> str:
    """Return in one line why a source gave no token, without trace ids and secrets."""
    if type(error).__name__ == "AuthenticationRequiredError":
        code = re.search(r"AADSTS\d+", str(error))
        return f"that sign-in has ended{f' ({code[0]})' if code else ''}; sign in again"
    text = str(getattr(error, "message", "") or error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
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
    """Return the message of the only member of a chain."""
    heads = [n for n, line in enumerate(lines) if line.startswith("Attempted credentials")]
    return lines[heads[0] + 1] if heads and heads[0] + 1 < len(lines) else ""
