"""The account that signed in with a code or a browser, remembered for every kernel of this user.

The record names the account and holds no secret. The tokens themselves lie in the cache of the SDK: the
system's key store where there is one, otherwise a file that only its owner may read. Neither is in a
workspace.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from nbtoolkit.azure.sdk import import_from
from nbtoolkit.errors import StoreError
from nbtoolkit.utils.atomic_write import write_atomically

CACHE_NAME = "nbtoolkit"


def config_folder() -> Path:
    """Return where this user's programs keep their configuration."""
    if sys.platform == "win32":
        base = os.environ.get("APPDATA") or str(Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Application Support")
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "nbtoolkit"


def record_path() -> Path:
    """Return the file that names the account."""
    return config_folder() / "azure-account.json"


def read() -> Any | None:
    """Return the SDK's record of the account; None where nobody signed in, or the file is damaged."""
    try:
        text = record_path().read_text(encoding="utf-8")
        return import_from("azure.identity", "AuthenticationRecord").deserialize(text)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # as good as never: the next sign-in writes it anew


def write(record: Any) -> None:
    """Remember the account for the next kernel; raises :class:`StoreError` where that is not possible."""
    path = record_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, record.serialize().encode())
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.",
            next_step="make that folder writable; until then every kernel has to sign in for itself",
            path=path,
        ) from error


def credential(record: Any, transport: Any = None) -> Any:
    """Return a credential for the account out of the cache alone; it never asks anybody."""
    options = {} if transport is None else {"transport": transport}
    return import_from("azure.identity", "DeviceCodeCredential")(
        authentication_record=record,
        disable_automatic_authentication=True,
        cache_persistence_options=cache_options(),
        **options,
    )


def cache_options() -> Any:
    """Return where the SDK keeps tokens between kernels.

    Without a key store, as on most servers, they lie in a file of mode 0600, as those of the Azure CLI do.
    """
    return import_from("azure.identity", "TokenCachePersistenceOptions")(
        name=CACHE_NAME, allow_unencrypted_storage=True
    )
