"""Clients of the Azure SDK for one credential, all with the same transport and policies."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import finalize

from nbtoolkit.azure.sdk import (
    ARM_SCOPE,
    CONNECT_TIMEOUT,
    POLL_INTERVAL,
    READ_TIMEOUT,
    USER_AGENT,
    import_from,
)
from nbtoolkit.utils.tls import tls_context

if TYPE_CHECKING:
    import httpx
    from azure.core.credentials import TokenCredential
    from azure.mgmt.appcontainers import ContainerAppsAPIClient
    from azure.mgmt.authorization import AuthorizationManagementClient
    from azure.mgmt.loganalytics import LogAnalyticsManagementClient
    from azure.mgmt.resource.deployments import DeploymentsMgmtClient
    from azure.mgmt.resource.resources import ResourceManagementClient
    from azure.mgmt.resource.subscriptions import SubscriptionClient
    from azure.mgmt.storage import StorageManagementClient

_HEADERS = {"User-Agent": USER_AGENT}
_PIPELINE = "nbtoolkit.azure.pipeline"
_Client = TypeVar("_Client")


class Cloud:
    """Create the SDK's clients for one credential, each once; safe to use from many threads.

    Creating one costs an import the first time and no request. Without ``credential`` the shared sign-in of
    this process is used. ``poll_interval`` is the number of seconds between two polls of a long-running
    operation if Azure sends no Retry-After. Proxies and certificates are those of the environment. Raises
    :class:`MissingDependency` if the SDK is not installed.
    """

    def __init__(
        self, credential: TokenCredential | None = None, *, poll_interval: float = POLL_INTERVAL
    ) -> None:
        self._credential = credential
        self.poll_interval = poll_interval
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        return "Cloud()" if self._credential is None else f"Cloud({type(self._credential).__name__})"

    @classmethod
    def shared(cls) -> Cloud:
        """Return the instance that this process shares."""
        global _shared
        with _sharing:
            _shared = _shared or cls()
            return _shared

    @property
    def credential(self) -> TokenCredential:
        """The credential; reading it never prompts for a sign-in."""
        if self._credential is None:
            from nbtoolkit.azure.auth.shared_credential import credential

            self._credential = credential()
        return self._credential

    def subscriptions(self) -> SubscriptionClient:
        """Subscriptions, tenants and locations."""
        return self._client("azure.mgmt.resource.subscriptions", "SubscriptionClient")

    def resources(self, subscription: str) -> ResourceManagementClient:
        """Resource groups, resource providers and lists of resources."""
        return self._client("azure.mgmt.resource.resources", "ResourceManagementClient", subscription)

    def deployments(self, subscription: str) -> DeploymentsMgmtClient:
        """Deployments of templates."""
        return self._client("azure.mgmt.resource.deployments", "DeploymentsMgmtClient", subscription)

    def containerapps(self, subscription: str) -> ContainerAppsAPIClient:
        """Container apps, their environments and GPU usage."""
        return self._client("azure.mgmt.appcontainers", "ContainerAppsAPIClient", subscription)

    def storage(self, subscription: str) -> StorageManagementClient:
        """Storage accounts, their keys and file shares."""
        return self._client("azure.mgmt.storage", "StorageManagementClient", subscription)

    def workspaces(self, subscription: str) -> LogAnalyticsManagementClient:
        """Log Analytics workspaces."""
        return self._client("azure.mgmt.loganalytics", "LogAnalyticsManagementClient", subscription)

    def permissions(self, subscription: str) -> AuthorizationManagementClient:
        """Permissions of the signed-in user."""
        return self._client("azure.mgmt.authorization", "AuthorizationManagementClient", subscription)

    def token(self, scope: str = ARM_SCOPE) -> str:
        """Return a bearer token; keep it in memory only."""
        return self.credential.get_token(scope).token

    def http(self) -> httpx.Client:
        """Return a plain HTTP client, for public prices and requests to the app."""
        import httpx

        def make() -> httpx.Client:
            client = httpx.Client(headers=_HEADERS, timeout=30, verify=tls_context())
            finalize(self, client.close)  # httpx leaves idle connections open when a client is collected
            return client

        return self.keep(("httpx", ""), make)

    def async_http(self) -> httpx.AsyncClient:
        """Return a new plain HTTP client for log streams; the caller closes it."""
        import httpx

        return httpx.AsyncClient(headers=_HEADERS, timeout=30, verify=tls_context())

    def close(self) -> None:
        """Close the connections of all clients; a client that is needed later is created again."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _client(self, module: str, name: str, subscription: str = "") -> Any:
        def make() -> object:
            credential = self.credential
            scope = () if name == "SubscriptionClient" else (subscription,)
            return import_from(module, name)(
                credential,
                *scope,
                polling_interval=self.poll_interval,
                transport=import_from(_PIPELINE, "DrainingTransport")(
                    # If the SDK can read a 409, it registers a resource provider without consent.
                    except_for=409,
                    connection_timeout=CONNECT_TIMEOUT,
                    read_timeout=READ_TIMEOUT,
                ),
                user_agent=USER_AGENT,
                authentication_policy=import_from(_PIPELINE, "FreshTokenPolicy")(credential),
                retry_policy=import_from(_PIPELINE, "RetryAllMethods")(),
            )

        return self.keep((name, subscription.lower()), make)

    def keep(self, key: tuple[str, str], make: Callable[[], _Client]) -> _Client:
        """Return the value of ``make`` for this key, created once and kept as long as the sign-in."""
        with self._lock:
            if key not in self._clients:
                self._clients[key] = make()
            return cast("_Client", self._clients[key])


_shared: Cloud | None = None
_sharing = Lock()
