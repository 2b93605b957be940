"""The findings of one check, and the result of the preflight."""

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


@dataclass
class Findings:
    """Sentences that block, sentences that warn, and facts as label → text."""

    blockers: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    facts: dict[str, str] = field(default_factory=dict[str, str])

    def block(self, sentence: str) -> None:
        """Add a blocker: the cause, and how to remove it."""
        self.blockers.append(sentence)

    def warn(self, sentence: str) -> None:
        """Add a warning that does not keep the provision from running."""
        self.warnings.append(sentence)

    def merge(self, other: Findings) -> None:
        """Add the findings of another check, without duplicates."""
        self.blockers += [text for text in other.blockers if text not in self.blockers]
        self.warnings += [text for text in other.warnings if text not in self.warnings]
        self.facts |= other.facts


@dataclass(frozen=True)
class Preflight:
    """The result of all checks before a provision.

    ``blockers`` and ``warnings`` are sentences with the next step. ``added_profile`` is the workload profile
    that an existing environment gets first, ``unregistered`` are the resource providers to register.
    ``quota`` and ``fit`` are None if they are not known.
    """

    settings: ProvisionSettings = field(repr=False)
    existing: ExistingResources = field(repr=False)
    blockers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    added_profile: Mapping[str, str] | None = None
    unregistered: tuple[str, ...] = ()
    quota: QuotaHeadroom | None = field(default=None, repr=False)
    fit: MemoryFit | None = field(default=None, repr=False)

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
