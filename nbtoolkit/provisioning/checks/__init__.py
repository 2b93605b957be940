"""The preflight and its checks: permissions, resource states, quotas, storage and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.memory_fit import MemoryFit
from nbtoolkit.azure.capacity.quota import QuotaHeadroom
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.provisioning.validation import raise_if_blocked
from nbtoolkit.utils.display import html_list, html_table, text_list, text_table


def as_sentence(next_step: str) -> str:
    """Return the next step of an error as a sentence."""
    return f"{next_step[:1].upper()}{next_step[1:]}."


@dataclass
class Preflight:
    """The result of all checks before a provision; each check adds its findings.

    ``blockers`` and ``warnings`` are sentences with the next step. ``added_profile`` is the workload profile
    that an existing environment gets first, ``unregistered`` are the resource providers to register.
    ``quota`` and ``fit`` are None if they are not known.
    """

    settings: ProvisionSettings = field(repr=False)
    existing: ExistingResources = field(repr=False)
    blockers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict[str, str])
    added_profile: Mapping[str, str] | None = None
    unregistered: tuple[str, ...] = ()
    quota: QuotaHeadroom | None = field(default=None, repr=False)
    fit: MemoryFit | None = field(default=None, repr=False)

    def block(self, sentence: str) -> None:
        """Add a blocker: the cause, and how to remove it."""
        if sentence not in self.blockers:
            self.blockers = (*self.blockers, sentence)

    def warn(self, sentence: str) -> None:
        """Add a warning that does not keep the provision from running."""
        if sentence not in self.warnings:
            self.warnings = (*self.warnings, sentence)

    @property
    def ok(self) -> bool:
        """Whether there is no blocker."""
        return not self.blockers

    def check(self) -> None:
        """Raise :class:`Blocked` if there is a blocker."""
        raise_if_blocked(self.blockers)

    @property
    def title(self) -> str:
        """The result in one sentence."""
        if not self.blockers:
            return "Nothing blocks this provision"
        count = "1 blocker keeps" if len(self.blockers) == 1 else f"{len(self.blockers)} blockers keep"
        return f"{count} this provision from running"

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.title}.",
                *text_list("", self.blockers),
                *text_list("Warnings", self.warnings),
                *([text_table(self.facts.items())] if self.facts else []),
            ]
        )

    def _repr_html_(self) -> str:
        return "".join(
            [
                f"<div><b>{escape(self.title)}.</b></div>",
                html_list("", self.blockers),
                html_list("Warnings", self.warnings),
                html_table(self.facts.items()),
            ]
        )
