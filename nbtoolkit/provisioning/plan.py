"""What a provision would do, shown before it does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.arm.what_if import ResourceChange, WhatIf
from nbtoolkit.azure.portal_urls import portal_url
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.utils.display import html_table, text_table


@dataclass(frozen=True)
class ProvisionPlan:
    """What would be created, changed and kept, what that costs, and what stands in the way.

    ``changes`` are differences of an app that exists; ``added_profile`` the machine that an existing
    environment gets first, ``unregistered`` the resource providers that are registered first; ``what_if`` is
    None where Azure was not asked. Holds no secret's value.
    """

    settings: ProvisionSettings = field(repr=False)
    existing: ExistingResources = field(repr=False)
    blockers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    downtime: bool = False
    """Whether the app stops for the change, so that nothing answers for some minutes."""
    added_profile: Mapping[str, str] | None = None
    unregistered: tuple[str, ...] = ()
    what_if: WhatIf | None = None
    costs: tuple[tuple[str, str], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def names(self) -> ResourceNames:
        """The names of all resources."""
        return self.existing.names

    @property
    def location(self) -> str:
        """The region of all of it."""
        return self.settings.location

    @property
    def creates(self) -> list[str]:
        """The ids of what would be created; the environment's log workspace only with the environment."""
        spared = {self.names.ids["log_analytics"]} if self.existing.environment is not None else set[str]()
        return [id_ for id_ in self.existing.to_create if id_ not in spared]

    @property
    def nothing_to_do(self) -> bool:
        """Tell whether all is there as the settings want it."""
        return not (self.blockers or self.creates or self.changes or self.added_profile)

    @property
    def table(self) -> WhatIf:
        """Azure's prediction, or what is known without it."""
        if self.what_if is not None:
            return self.what_if
        ids = self.names.ids
        known = [ResourceChange(ids["environment"], "change")] if self.added_profile else []
        known += (
            [ResourceChange(ids["app"], "change")] if self.changes and self.existing.app is not None else []
        )
        seen = {change.id for change in known} | set(self.creates)
        created = [ResourceChange(id_, "create") for id_ in self.creates]
        kept = [
            ResourceChange(id_, "keep")
            for name, id_ in ids.items()
            if id_ not in seen and getattr(self.existing, name) is not None
        ]
        group = [ResourceChange(self.names.group_id, "create")] if self.existing.group is None else []
        return WhatIf((*group, *created, *known, *kept))

    @property
    def title(self) -> str:
        """What it comes to, in a sentence."""
        where = f"{self.names.resource_group} in {self.location}"
        if self.blockers:
            return f"Cannot be provisioned into {where} yet"
        if self.nothing_to_do:
            return f"All is there already in {where}; nothing would change"
        return f"Would provision {self.names.app} into {where}"

    def rows(self) -> list[tuple[str, str]]:
        """Return the facts, as label and text."""
        first = [("subscription", self.names.subscription), ("portal", portal_url(self.names.group_id))]
        machine = (
            f"{self.settings.gpu}, {self.settings.min_replicas} to {self.settings.max_replicas} replicas"
        )
        rows = [*first, ("machine", machine)]
        if self.downtime:
            rows.append(("downtime", "the app stops for the change; nothing answers for some minutes"))
        if self.added_profile:
            kind = self.added_profile["workloadProfileType"]
            rows.append(("profile", f"{kind} is added to the environment {self.names.environment}"))
        if self.unregistered:
            rows.append(("providers", f"{', '.join(self.unregistered)} are registered first"))
        if self.settings.commands:
            rows.append(
                ("start commands", "of your own server (server='own'); nbtoolkit's server does not use them")
            )
        return [*rows, *self.costs]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.title}.",
                *_listed("Settle first", self.blockers),
                *_listed("Note", self.warnings),
                *_listed("Changes of the app", self.changes),
                "",
                str(self.table),
                "",
                text_table(self.rows()),
            ]
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts = [f"<div><b>{escape(self.title)}.</b></div>"]
        for heading, sentences in (
            ("Settle first", self.blockers),
            ("Note", self.warnings),
            ("Changes of the app", self.changes),
        ):
            items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
            parts.append(f"<div>{heading}<ul style='margin:0'>{items}</ul></div>" if items else "")
        return "".join([*parts, self.table.html(), html_table(self.rows())])


def _listed(heading: str, sentences: Iterable[str]) -> list[str]:
    lines = [f"  - {sentence}" for sentence in sentences]
    return [f"{heading}:", *lines] if lines else []
