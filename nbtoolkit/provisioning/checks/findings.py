"""What one check of the preflight found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Findings:
    """Sentences that block, sentences that warn, and facts as label → text."""

    blockers: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    facts: dict[str, str] = field(default_factory=dict[str, str])

    def block(self, sentence: str) -> None:
        """Add what must be settled first, with what to do."""
        self.blockers.append(sentence)

    def warn(self, sentence: str) -> None:
        """Add what is worth knowing before going on."""
        self.warnings.append(sentence)

    def add(self, other: Findings) -> None:
        """Take over what another check found, each sentence once."""
        self.blockers += [text for text in other.blockers if text not in self.blockers]
        self.warnings += [text for text in other.warnings if text not in self.warnings]
        self.facts |= other.facts
