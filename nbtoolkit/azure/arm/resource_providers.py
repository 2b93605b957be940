"""Resource providers: a subscription must be registered with each before it can create anything of theirs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbtoolkit.azure import sdk
from nbtoolkit.azure.arm.long_running import start_request
from nbtoolkit.azure.capacity.quota import region_name
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.utils.threads import run_all_cancellable

NEEDED = ("Microsoft.App", "Microsoft.Storage", "Microsoft.OperationalInsights")
REGISTERED = "Registered"


@dataclass(frozen=True)
class Provider:
    """One provider as a subscription sees it; ``regions`` are those of each resource type."""

    namespace: str
    state: str
    regions: dict[str, frozenset[str]]

    @property
    def registered(self) -> bool:
        """Tell whether the subscription may use it."""
        return self.state == REGISTERED

    def offers(self, resource_type: str, region: str) -> bool | None:
        """Tell whether a type exists in a region; None where Azure names no regions."""
        regions = self.regions.get(resource_type.lower())
        return None if not regions else region_name(region) in regions


def provider(cloud: Cloud, subscription: str, namespace: str) -> Provider:
    """Return a provider's state and regions. One request; raises :class:`AzureFailed`."""
    with translate_errors(f"read the resource provider {namespace}"):
        found: Any = cloud.resources(subscription).providers.get(namespace)
    return Provider(
        namespace=namespace,
        state=str(found.registration_state or "unknown"),
        regions={
            str(one.resource_type).lower(): frozenset(map(region_name, one.locations or ()))
            for one in found.resource_types or ()
        },
    )


def register_providers(
    cloud: Cloud,
    subscription: str,
    namespaces: Iterable[str] = NEEDED,
    progress: Progress | None = None,
    timeout: float = 600,
) -> None:
    """Register a subscription with providers and wait until it is; costs nothing, takes about a minute.

    Needs the action ``<namespace>/register/action`` in the subscription. Raises :class:`AzureFailed`, also
    after ``timeout`` seconds; Azure goes on registering then.
    """
    progress = progress or SILENT()
    client: Any = cloud.resources(subscription).providers
    open_ = list(namespaces)
    for namespace in open_:
        progress.phase(f"Registering {namespace}")
        what = f"register the resource provider {namespace}"
        with translate_errors(what):
            start_request(what, partial(client.register, namespace), progress)
    deadline = time.monotonic() + timeout
    while True:
        asked = run_all_cancellable(
            progress, {name: partial(provider, cloud, subscription, name) for name in open_}
        )
        open_ = [name for name, answer in asked.items() if not answer.result().registered]
        if not open_:
            return
        if time.monotonic() >= deadline:
            raise AzureFailed(
                f"Azure is still registering {', '.join(open_)} after {timeout:.0f} s.",
                next_step="wait some minutes, then run the step again",
                code="RegistrationPending",
            )
        progress.note(f"waiting for {', '.join(open_)}")
        progress.sleep(sdk.POLL_INTERVAL)
