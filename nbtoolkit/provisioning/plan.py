"""The plan of a provision: what it would create, change and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import starmap
from typing import Any

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.arm.what_if import ResourceChange, WhatIf
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.resource_id import portal_url
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.utils.display import FactTable, html_list, text_list


@dataclass(frozen=True, repr=False)
class ProvisionPlan(FactTable):
    """The resources that would be created, changed and kept, the costs, and the blockers.

    ``changes`` are differences of an existing app. ``added_profile`` is the workload profile that an existing
    environment gets first, ``unregistered`` are the resource providers to register first. ``what_if`` is
    Azure's prediction, None if it was not requested. Holds no secret's value.
    """

    settings: ProvisionSettings
    existing: ExistingResources
    blockers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    downtime: bool = False
    """Whether the app stops for the change, so nothing answers for some minutes."""
    added_profile: Mapping[str, str] | None = None
    unregistered: tuple[str, ...] = ()
    what_if: WhatIf | None = None
    costs: tuple[tuple[str, str], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def names(self) -> ResourceNames:
        """The names of all resources."""
        return self.existing.names

    @property
    def location(self) -> str:
        """The region of all resources."""
        return self.settings.location

    @property
    def creates(self) -> list[str]:
        """The ids to create; the environment's log workspace only together with the environment."""
        kept = {self.names.ids["log_analytics"]} if self.existing.environment is not None else set[str]()
        return [id_ for id_ in self.existing.to_create if id_ not in kept]

    @property
    def nothing_to_do(self) -> bool:
        """Whether every resource exists as the settings define it."""
        return not (self.blockers or self.creates or self.changes or self.added_profile)

    @property
    def table(self) -> WhatIf:
        """Azure's prediction, or the known changes without it."""
        if self.what_if is not None:
            return self.what_if
        ids, existing = self.names.ids, self.existing
        created = [self.names.group_id] if existing.group is None else []
        verbs = dict.fromkeys([*created, *self.creates], "create")
        if self.added_profile:
            verbs[ids["environment"]] = "change"
        if self.changes and existing.app is not None:
            verbs[ids["app"]] = "change"
        exists = [id_ for name, id_ in ids.items() if getattr(existing, name) is not None]
        verbs |= {id_: "keep" for id_ in exists if id_ not in verbs}
        return WhatIf(tuple(starmap(ResourceChange, verbs.items())))

    @property
    def title(self) -> str:
        """The result in one sentence."""
        group = f"{self.names.resource_group} in {self.location}"
        if self.blockers:
            return f"Cannot be provisioned into {group} yet"
        if self.nothing_to_do:
            return f"Everything exists in {group}; nothing would change"
        return f"Would provision {self.names.app} into {group}"

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text of each fact."""
        settings = self.settings
        rows = [
            ("subscription", self.names.subscription),
            ("portal", portal_url(self.names.group_id)),
            ("GPU", f"{settings.gpu}, {settings.min_replicas} to {settings.max_replicas} replicas"),
        ]
        if self.downtime:
            rows.append(("downtime", "the app stops for the change; nothing answers for some minutes"))
        if self.added_profile:
            type_ = self.added_profile["workloadProfileType"]
            rows.append(("profile", f"{type_} is added to the environment {self.names.environment}"))
        if self.unregistered:
            rows.append(("providers", f"{', '.join(self.unregistered)} are registered first"))
        if settings.commands:
            rows.append(
                ("start commands", "of a custom server (server='own'); nbtoolkit's server does not use them")
            )
        return [*rows, *self.costs]

    def __str__(self) -> str:
        lists = (text_list(heading, items) for heading, items in self._lists())
        lines = [line for list_ in lists for line in list_]
        return "\n".join([f"{self.title}.", *lines, "", str(self.table), "", super().__str__()])

    def _repr_html_(self) -> str:
        lists = "".join(html_list(heading, items) for heading, items in self._lists())
        return f"<div><b>{escape(self.title)}.</b></div>{lists}{self.table.html()}{super()._repr_html_()}"

    def _lists(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (
            ("Blockers", self.blockers),
            ("Warnings", self.warnings),
            ("Changes of the app", self.changes),
        )


def cost_rows(settings: ProvisionSettings, price: str) -> tuple[tuple[str, str], ...]:
    """Return what is billed, as label and text; ``price`` is that of a running replica."""
    storage = "storage by GB and month, logs by GB received"
    minimum, cooldown = settings.min_replicas, settings.cooldown
    if minimum:
        at_zero = f"never: {minimum} replicas always run; in addition {storage}"
        first = f"starts {minimum} at once"
    else:
        at_zero = f"only {storage}; the last replica ends {cooldown} s after the last request"
        first = f"starts one at once, which ends after {cooldown} s without a request"
    rows = [
        ("at zero replicas", at_zero),
        ("first replica", f"creating or changing the app {first}"),
        ("per running replica", price),
    ]
    if not GpuProfile.by_name(settings.gpu).serverless:
        fee = "a dedicated profile costs a management fee as long as the environment has it"
        rows.append(("dedicated", fee))
    return tuple(rows)
