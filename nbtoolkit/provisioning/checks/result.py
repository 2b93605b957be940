"""What the preflight found, as a value that prints well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.memory_fit import MemoryFit
from nbtoolkit.azure.capacity.quota import QuotaHeadroom
from nbtoolkit.errors import Blocked
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.utils.display import html_table, text_table


@dataclass(frozen=True)
class Preflight:
    """What stands in the way of a provision, found without writing anything.

    ``blockers`` and ``warnings`` are sentences with what to do. ``existing`` is what there is,
    ``added_profile`` the workload profile that an existing environment gets first, ``unregistered`` the
    resource providers still to be registered. ``room`` and ``fit`` are None where they are not known.
    """

    settings: ProvisionSettings = field(repr=False)
    existing: ExistingResources = field(repr=False)
    blockers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    added_profile: Mapping[str, str] | None = None
    unregistered: tuple[str, ...] = ()
    room: QuotaHeadroom | None = field(default=None, repr=False)
    fit: MemoryFit | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Tell whether nothing stands in the way."""
        return not self.blockers

    def check(self) -> None:
        """Raise :class:`Blocked` where something stands in the way."""
        if self.blockers:
            raise Blocked(
                "Nothing was written to Azure; this has to be settled first:"
                + "".join(f"\n  - {sentence}" for sentence in self.blockers),
                next_step="settle this, then run the step again",
                blockers=self.blockers,
            )

    @property
    def title(self) -> str:
        """What it comes to, in a sentence."""
        if not self.blockers:
            return "Nothing stands in the way of this provision"
        count = "1 thing has" if len(self.blockers) == 1 else f"{len(self.blockers)} things have"
        return f"{count} to be settled first"

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.title}.",
                *(f"  - {sentence}" for sentence in self.blockers),
                *(["Note:"] if self.warnings else []),
                *(f"  - {sentence}" for sentence in self.warnings),
                *([text_table(self.facts.items())] if self.facts else []),
            ]
        )

    def _repr_html_(self) -> str:
        return "".join(
            [
                f"<div><b>{escape(self.title)}.</b></div>",
                _listed("", self.blockers),
                _listed("Note", self.warnings),
                html_table(self.facts.items()),
            ]
        )


def _listed(heading: str, sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<div>{heading}<ul style='margin:0'>{items}</ul></div>" if items else ""
