"""The way into one file share: by token where the role is there, by the account's key otherwise."""

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
"""One call of the SDK; it hands its second argument on as the option ``tries``."""

DENIED = (401, 403)


class ShareAccess:
    """Ask one share, from many threads; connections and what is found out are kept.

    The first request tries the token; who lacks the role is led to the account's key, which is read
    through Azure Resource Manager and kept in memory only. A key that is refused later has been rotated:
    it is read again, once.
    """

    def __init__(self, cloud: Cloud, provisioned: ResourceNames) -> None:
        self._cloud = cloud
        self._provisioned = provisioned
        self._lock = threading.Lock()
        self._client: ShareClient | None = None
        self._key: str | None = None
        self._transport: Any = None

    def __repr__(self) -> str:
        return f"ShareAccess({self.where})"

    @classmethod
    def of(cls, cloud: Cloud, provisioned: ResourceNames) -> ShareAccess:
        """Return the one of this cloud and share."""
        place = f"{provisioned.account_id}/{provisioned.file_share}".lower()
        return cloud.keep(("file share", place), lambda: cls(cloud, provisioned))

    @property
    def where(self) -> str:
        """The share's name for messages."""
        return f"the file share {self._provisioned.storage_account}/{self._provisioned.file_share}"

    def close(self) -> None:
        """Close the connections; what is asked later opens new ones."""
        with self._lock:
            transport, self._transport, self._client = self._transport, None, None
        if transport is not None:
            transport.close()

    def ask(
        self,
        doing: str,
        path: str,
        request: Request[T],
        stop: threading.Event | None = None,
        beat: Callable[[int], object] | None = None,
    ) -> T:
        """Return what a request returns; raises StoreError, where ``doing`` completes "Could not".

        ``stop`` and ``beat`` end it early, see :class:`~nbtoolkit.azure.files.retry_policy.RetryState`.
        """
        client = self._current()
        from azure.core.exceptions import AzureError  # the client's import has said if there is no SDK

        from nbtoolkit.azure.files.retry_policy import RetryState

        while True:
            try:
                return request(client, RetryState(stop, beat))
            except (AzureError, OSError) as error:
                another = self._another(client, error)
                if another is None:
                    if isinstance(error, NbtoolkitError):
                        raise
                    raise store_error(doing, path, self.where, error) from error
                client = another

    def _current(self) -> ShareClient:
        with self._lock:
            if self._client is None:
                self._client = self._open(self._key)
            return self._client

    def _another(self, refused: ShareClient, error: BaseException) -> ShareClient | None:
        """Return a client with another credential than the refused one's, None where there is none."""
        if getattr(error, "status_code", None) not in DENIED and not isinstance(error, NotSignedIn):
            return None
        with self._lock:
            if self._client is not refused:
                return self._client  # another thread has found the way
            if self._key is not None and code_of(error) != "AuthenticationFailed":
                return None  # a firewall, or a share without keys
            key = self._read_key()
            if key == self._key:
                return None
            self._key = key
            self._client = self._open(key)
            return self._client

    def _open(self, key: str | None) -> ShareClient:
        client = import_from("azure.storage.fileshare", "ShareClient")
        from nbtoolkit.azure.files.retry_policy import InterruptibleRetryPolicy
        from nbtoolkit.azure.files.transport import transport

        url = f"https://{self._provisioned.storage_account}.file.core.windows.net"
        self._transport = self._transport or transport(url)
        return client(
            url,
            self._provisioned.file_share,
            credential=key or self._cloud.credential,
            token_intent="backup",  # noqa: S106  the way of asking that the role allows
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
                f"Who is signed in may neither use the data of the storage account {account} nor read its "
                "keys.",
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
                f"The storage account {account} has no key that may write.",
                next_step="look at its access keys in the portal",
            )
        return values[0]
