"""Requests to one file share with a token or the account's key; downloads in verified ranges."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.files.errors import ROLE, code_of, store_error
from nbtoolkit.azure.files.request_limits import (
    DEFAULT_LIMITS,
    RETRY_STATE,
    RetryState,
    ShareLimits,
    map_in_order,
)
from nbtoolkit.azure.sdk import USER_AGENT, import_from
from nbtoolkit.errors import AlreadyExists, AzureFailed, NbtoolkitError, NotInStore, NotSignedIn, StoreError
from nbtoolkit.filestore.chunked_io import CHUNK
from nbtoolkit.progress import Sent, silent

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

T = TypeVar("T")
Request = Callable[["ShareClient"], T]
"""One call of the SDK."""


class ShareConnection:
    """Send requests to one share from many threads; connections and the credential are kept.

    The first request uses the token. Without the role, the account's key is read through Azure Resource
    Manager and kept in memory only. A key that is refused later was rotated: it is read again, once.
    """

    def __init__(
        self, cloud: Cloud, provisioned: ResourceNames, limits: ShareLimits = DEFAULT_LIMITS
    ) -> None:
        self.limits = limits
        self._cloud = cloud
        self._provisioned = provisioned
        self._lock = threading.Lock()
        self._client: ShareClient | None = None
        self._key: str | None = None
        self._transport: Any = None

    def __repr__(self) -> str:
        return f"ShareConnection({self.description})"

    @classmethod
    def shared(
        cls, cloud: Cloud, provisioned: ResourceNames, limits: ShareLimits = DEFAULT_LIMITS
    ) -> ShareConnection:
        """Return the connection to this share that all users of ``cloud`` have in common."""
        key = f"{provisioned.account_id}/{provisioned.file_share} {limits}".lower()
        return cloud.keep(("file share", key), lambda: cls(cloud, provisioned, limits))

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

    def call(self, action: str, path: str, request: Request[T], state: RetryState | None = None) -> T:
        """Send a request and return its result; raises StoreError, in which ``action`` completes "Could not".

        ``state`` can end it early.
        """
        with self._lock:
            client = self._client = self._client or self._connect(self._key)
        from azure.core.exceptions import AzureError  # after _connect, which raises MissingDependency

        outer = RETRY_STATE.set(state or RetryState())
        try:
            while True:
                try:
                    return request(client)
                except (AzureError, OSError) as error:
                    fallback = self._fallback_client(client, error)
                    if fallback is None:
                        if isinstance(error, NbtoolkitError):
                            raise
                        raise store_error(action, path, self.description, error) from error
                    client = fallback
        finally:
            RETRY_STATE.reset(outer)

    def rename(self, old: str, new: str, *, overwrite: bool, on_wait: Sent = silent) -> None:
        """Rename a file; raises AlreadyExists and NotInStore.

        One request; after a lost response two more, which find out whether the file was renamed.
        """
        state = RetryState(on_wait=on_wait)

        def exists(path: str) -> bool:
            try:
                self.call(
                    "read the properties of",
                    path,
                    lambda share: share.get_file_client(path).get_file_properties(),
                    RetryState(on_wait=on_wait),
                )
            except NotInStore:
                return False
            return True

        try:
            self.call(
                "rename",
                old,
                lambda share: share.get_file_client(old).rename_file(new, overwrite=overwrite),
                state,
            )
        except (AlreadyExists, NotInStore) as refused:
            # An attempt without a response may have been applied: then the old name is gone.
            if state.maybe_applied and not exists(old) and exists(new):
                return
            if isinstance(refused, AlreadyExists):
                raise AlreadyExists(
                    f"{new} already exists.", next_step="choose another name", path=new
                ) from None
            raise

    def _fallback_client(self, refused: ShareClient, error: BaseException) -> ShareClient | None:
        """Return a client with another credential than the refused client's; None if there is none."""
        if getattr(error, "status_code", None) not in (401, 403) and not isinstance(error, NotSignedIn):
            return None
        with self._lock:
            if self._client is not refused:
                return self._client  # another thread has replaced it
            if self._key is not None and code_of(error) != "AuthenticationFailed":
                return None  # a firewall, or an account that accepts no keys
            key = self._read_key()
            if key != self._key:
                self._key = key
                self._client = self._connect(key)
                return self._client
            return None

    def _connect(self, key: str | None) -> ShareClient:
        share_client = import_from("azure.storage.fileshare", "ShareClient")
        from nbtoolkit.azure.files.retry_policy import InterruptibleRetryPolicy
        from nbtoolkit.azure.files.transport import make_transport

        url = f"https://{self._provisioned.storage_account}.file.core.windows.net"
        self._transport = self._transport or make_transport(url)
        return share_client(
            url,
            self._provisioned.file_share,
            credential=key or self._cloud.credential,
            token_intent="backup",  # noqa: S106  the role grants access by backup intent only
            transport=self._transport,
            retry_policy=InterruptibleRetryPolicy(self.limits),
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
        for key in found.keys_property or ():
            if key.value and str(key.permissions or "Full").lower().endswith("full"):
                return key.value
        raise StoreError(
            f"The storage account {account} has no key with write access.",
            next_step="check its access keys in the portal",
        )


def read_chunks(
    connection: ShareConnection, path: str, offset: int, length: int | None, on_wait: Sent
) -> Generator[bytes]:
    """Yield the bytes of one version of a file, range by range, with some ranges downloaded ahead.

    ``on_wait`` is called with 0 while this waits, and may raise; a caller that may stop early closes the
    iterator.
    """
    first = CHUNK if length is None else min(length, CHUNK)
    if first <= 0:
        return
    stop = threading.Event()
    data, size, version = read_range(connection, path, offset, first, RetryState(stop, on_wait))
    yield data
    end = size if length is None else min(size, offset + length)

    def fetch(start: int) -> bytes:
        found, _, now = read_range(connection, path, start, min(CHUNK, end - start), RetryState(stop))
        if now != version:
            raise StoreError(f"{path} was replaced while it was read.", next_step="read it again", path=path)
        return found

    yield from map_in_order(fetch, range(offset + CHUNK, end, CHUNK), stop, on_wait)


def read_range(
    connection: ShareConnection, path: str, start: int, length: int, state: RetryState
) -> tuple[bytes, int, str]:
    """Return the bytes of one range, up to 4 MiB, the size of the file and its version."""
    try:
        got = connection.call(
            "read",
            path,
            lambda share: share.get_file_client(path).download_file(
                offset=start, length=length, validate_content="md5"
            ),
            state,
        )
    except StoreError as error:
        if error.code == "InvalidRange":
            return b"", 0, ""  # the file ends before this offset
        raise
    size = int(str(got.properties.content_range).rpartition("/")[2])
    return got.readall(), size, str(got.properties.etag)
