"""One signed-in way into Azure: a credential, and the official SDK's clients made with the same rules."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import finalize

from nbtoolkit._version import __version__
from nbtoolkit.errors import MissingDependency
from nbtoolkit.installation import install_hint
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

ARM_SCOPE = "https://management.azure.com/.default"
AGENT = f"nbtoolkit/{__version__}"
"""What our requests call themselves, so that Azure's logs name us."""
POLL = 2
"""Seconds between two looks at a long-running operation where Azure names no Retry-After."""
CONNECT, READ = 20, 60
"""Seconds until a host that does not answer counts as lost; the SDK would wait 300 for either."""

_Client = TypeVar("_Client")


class Cloud:
    """Make the SDK's clients for one credential, each once; safe to use from many threads.

    Making one costs an import the first time and no request. Without ``credential`` the shared sign-in of
    this process is used. Proxies and certificates are those of the environment. Raises
    :class:`MissingDependency` where the SDK is not installed.
    """

    def __init__(self, credential: TokenCredential | None = None) -> None:
        self._credential = credential
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        return "Cloud()" if self._credential is None else f"Cloud({type(self._credential).__name__})"

    @classmethod
    def shared(cls) -> Cloud:
        """Return the one of this process."""
        global _shared
        with _sharing:
            _shared = _shared or cls()
            return _shared

    @property
    def credential(self) -> TokenCredential:
        """Who is signed in; nobody is asked to sign in here."""
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
        """What the signed-in user may do."""
        return self._client("azure.mgmt.authorization", "AuthorizationManagementClient", subscription)

    def token(self, scope: str = ARM_SCOPE) -> str:
        """Return a bearer token; keep it in memory only."""
        return self.credential.get_token(scope).token

    def http(self) -> httpx.Client:
        """Return a plain HTTP client, for log streams and public prices."""
        import httpx

        def make() -> httpx.Client:
            agent = {"User-Agent": AGENT}
            client = httpx.Client(headers=agent, timeout=30, verify=tls_context())
            finalize(self, client.close)  # httpx leaves idle connections open when a client is collected
            return client

        return self._once(("httpx", ""), make)

    def keep(self, key: tuple[str, str], make: Callable[[], _Client]) -> _Client:
        """Return what ``make`` made the first time for this key, so that it lives as long as the sign-in."""
        return self._once(key, make)

    def close(self) -> None:
        """Close the connections of all clients; one that is asked for again is made anew."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _client(self, module: str, name: str, subscription: str = "") -> Any:
        def make() -> object:
            credential = self.credential
            where = () if name == "SubscriptionClient" else (subscription,)
            return sdk(module, name)(
                credential,
                *where,
                polling_interval=POLL,
                transport=sdk("nbtoolkit.azure.files.transport", "DrainingTransport")(
                    connection_timeout=CONNECT, read_timeout=READ
                ),
                user_agent=AGENT,
                authentication_policy=sdk("nbtoolkit.azure.auth.challenge_policy", "FreshTokenPolicy")(
                    credential
                ),
                retry_policy=sdk("nbtoolkit.azure.retry", "RetryOnLostAnswers")(),
            )

        return self._once((name, subscription.lower()), make)

    def _once(self, key: tuple[str, str], make: Callable[[], _Client]) -> _Client:
        with self._lock:
            if key not in self._clients:
                self._clients[key] = make()
            return cast("_Client", self._clients[key])


_shared: Cloud | None = None
_sharing = Lock()


def sdk(module: str, name: str) -> Any:
    """Return a name of the Azure SDK; raises :class:`MissingDependency` where it is not installed."""
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise MissingDependency(
            f"{module} cannot be imported: {error}.",
            next_step=install_hint("azure"),
            package=module,
        ) from error
