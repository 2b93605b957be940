"""The account of the last interactive sign-in, stored for all kernels of this user.

The record names the account and holds no secret. Tokens are in the cache of the SDK: the system's key
store if there is one, else a file that only its owner may read. Neither is in a workspace.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbtoolkit.azure.sdk import import_from
from nbtoolkit.errors import StoreError
from nbtoolkit.utils.atomic_write import write_atomically

CACHE_NAME = "nbtoolkit"


def config_dir() -> Path:
    """Return the folder of this user's configuration of nbtoolkit."""
    return Path(import_from("platformdirs", "user_config_dir")("nbtoolkit", appauthor=False, roaming=True))


def record_path() -> Path:
    """Return the path of the account record."""
    return config_dir() / "azure-account.json"


def read() -> Any | None:
    """Return the SDK's record of the account; None if there is none or it is damaged."""
    try:
        text = record_path().read_text(encoding="utf-8")
        return import_from("azure.identity", "AuthenticationRecord").deserialize(text)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the next sign-in writes it again


def write(record: Any) -> None:
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


def credential(record: Any, transport: Any = None) -> Any:
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
        name=CACHE_NAME, allow_unencrypted_storage=True
    )
