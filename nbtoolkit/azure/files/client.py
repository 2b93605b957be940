"""Access to one file share: by token if the user has the role, else by the account's key."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.files.errors import ROLE, code_of, store_error
from nbtoolkit.azure.sdk import USER_AGENT, import_from
from nbtoolkit.errors import AzureFailed, NbtoolkitError, NotSignedIn, StoreError

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.files.retry_policy import RetryState

T = TypeVar("T")
Request = Callable[["ShareClient", "RetryState"], T]
"""One call of the SDK; it passes its second argument on as the option ``retry_state``."""

DENIED_STATUSES = (401, 403)


class ShareConnection:
    """Send requests to one share from many threads; connections and the credential are kept.

    The first request uses the token. Without the role, the account's key is read through Azure Resource
    Manager and kept in memory only. A key that is refused later was rotated: it is read again, once.
    """

    def __init__(self, cloud: Cloud, provisioned: ResourceNames) -> None:
        self._cloud = cloud
        self._provisioned = provisioned
        self._lock = threading.Lock()
        self._client: ShareClient | None = None
        self._key: str | None = None
        self._transport: Any = None

    def __repr__(self) -> str:
        return f"ShareConnection({self.description})"

    @classmethod
    def shared(cls, cloud: Cloud, provisioned: ResourceNames) -> ShareConnection:
        """Return the connection to this share that all users of ``cloud`` have in common."""
        place = f"{provisioned.account_id}/{provisioned.file_share}".lower()
        return cloud.keep(("file share", place), lambda: cls(cloud, provisioned))

    @property
    def description(self) -> str:
        """The share's name for messages."""
        return f"the file share {self._provisioned.storage_account}/{self._provisioned.file_share}"

    def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        with self._lock:
            transport, self._transport, self._client = self._transport, None, None
        if transport is not None:
            transport.close()

    def call(
        self,
        action: str,
        path: str,
        request: Request[T],
        stop: threading.Event | None = None,
        on_wait: Callable[[int], object] | None = None,
    ) -> T:
        """Send a request and return its result; raises StoreError, in which ``action`` completes "Could not".

        ``stop`` and ``on_wait`` end it early, see :class:`~nbtoolkit.azure.files.retry_policy.RetryState`.
        """
        client = self._get_client()
        from azure.core.exceptions import AzureError  # after _get_client, which raises MissingDependency

        from nbtoolkit.azure.files.retry_policy import RetryState

        while True:
            try:
                return request(client, RetryState(stop, on_wait))
            except (AzureError, OSError) as error:
                fallback = self._fallback_client(client, error)
                if fallback is None:
                    if isinstance(error, NbtoolkitError):
                        raise
                    raise store_error(action, path, self.description, error) from error
                client = fallback

    def _get_client(self) -> ShareClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect(self._key)
            return self._client

    def _fallback_client(self, refused: ShareClient, error: BaseException) -> ShareClient | None:
        """Return a client with another credential than the refused client's; None if there is none."""
        if getattr(error, "status_code", None) not in DENIED_STATUSES and not isinstance(error, NotSignedIn):
            return None
        with self._lock:
            if self._client is not refused:
                return self._client  # another thread has replaced it
            if self._key is not None and code_of(error) != "AuthenticationFailed":
                return None  # a firewall, or an account that accepts no keys
            key = self._read_key()
            if key == self._key:
                return None
            self._key = key
            self._client = self._connect(key)
            return self._client

    def _connect(self, key: str | None) -> ShareClient:
        client = import_from("azure.storage.fileshare", "ShareClient")
        from nbtoolkit.azure.files.retry_policy import InterruptibleRetryPolicy
        from nbtoolkit.azure.files.transport import make_transport

        url = f"https://{self._provisioned.storage_account}.file.core.windows.net"
        self._transport = self._transport or make_transport(url)
        return client(
            url,
            self._provisioned.file_share,
            credential=key or self._cloud.credential,
            token_intent="backup",  # noqa: S106  the role grants access by backup intent only
            transport=self._transport,
            retry_policy=InterruptibleRetryPolicy(),
            user_agent=USER_AGENT,
        )

    def _read_key(self) -> str:
        account = self._provisioned.storage_account
        accounts = self._cloud.storage(self._provisioned.subscription).storage_accounts
        try:
            with translate_errors(f"read the keys of the storage account {account}"):
                found = accounts.list_keys(self._provisioned.resource_group, account)
        except NotSignedIn:
            raise
        except AzureFailed as error:
            if error.status != 403:
                raise StoreError(
                    error.message, next_step=error.next_step, status=error.status, code=error.code
                ) from error
            raise StoreError(
                f"The signed-in account may neither use the data of the storage account {account} nor read "
                "its keys.",
                next_step=f"ask an owner of the account for the role {ROLE!r}, or for the action "
                "Microsoft.Storage/storageAccounts/listKeys/action",
                status=error.status,
                code=error.code,
            ) from error
        keys = [
            key
            for key in found.keys_property or []
            if str(key.permissions or "Full").lower().endswith("full")
        ]
        values = [key.value for key in keys if key.value]
        if not values:
            raise StoreError(
                f"The storage account {account} has no key with write access.",
                next_step="check its access keys in the portal",
            )
        return values[0]
