"""Read and register resource providers; a subscription needs one to create a resource of its types."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbtoolkit.azure.arm.long_running import start_request
from nbtoolkit.azure.capacity.quota import normalize_region
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.utils.threads import run_all_cancellable

REQUIRED_PROVIDERS = ("Microsoft.App", "Microsoft.Storage", "Microsoft.OperationalInsights")
_REGISTERED = "Registered"


@dataclass(frozen=True)
class ResourceProvider:
    """A provider's registration in a subscription; ``regions`` maps each resource type to its regions."""

    namespace: str
    state: str
    regions: dict[str, frozenset[str]]

    @property
    def registered(self) -> bool:
        """Return whether the subscription may use it."""
        return self.state == _REGISTERED

    def offers(self, resource_type: str, region: str) -> bool | None:
        """Return whether a type exists in a region; None if Azure lists no regions for it."""
        regions = self.regions.get(resource_type.lower())
        return None if not regions else normalize_region(region) in regions


def get_provider(cloud: Cloud, subscription: str, namespace: str) -> ResourceProvider:
    """Return a provider's state and regions. One request; raises :class:`AzureFailed`."""
    with translate_errors(f"read the resource provider {namespace}"):
        found: Any = cloud.resources(subscription).providers.get(namespace)
    return ResourceProvider(
        namespace=namespace,
        state=str(found.registration_state or "unknown"),
        regions={
            str(one.resource_type).lower(): frozenset(map(normalize_region, one.locations or ()))
            for one in found.resource_types or ()
        },
    )


def register_providers(
    cloud: Cloud,
    subscription: str,
    namespaces: Iterable[str] = REQUIRED_PROVIDERS,
    progress: Progress | None = None,
    timeout: float = 600,
) -> None:
    """Register providers in a subscription and wait until they are; free of cost, takes about a minute.

    Needs the action ``<namespace>/register/action`` in the subscription. Raises :class:`AzureFailed`, also
    after ``timeout`` seconds; Azure continues the registration then.
    """
    progress = progress or SILENT()
    client: Any = cloud.resources(subscription).providers
    pending = list(namespaces)
    for namespace in pending:
        progress.phase(f"Registering {namespace}")
        action = f"register the resource provider {namespace}"
        with translate_errors(action):
            start_request(action, partial(client.register, namespace), progress)

    def registered() -> bool:
        nonlocal pending
        providers = run_all_cancellable(
            progress, {name: partial(get_provider, cloud, subscription, name) for name in pending}
        )
        pending = [name for name, future in providers.items() if not future.result().registered]
        if pending:
            progress.note(f"waiting for {', '.join(pending)}")
        return not pending

    if not progress.wait_until(registered, timeout=timeout, interval=cloud.poll_interval):
        raise AzureFailed(
            f"Azure is still registering {', '.join(pending)} after {timeout:.0f} s.",
            next_step="wait some minutes, then run the step again",
            code="RegistrationPending",
        )
