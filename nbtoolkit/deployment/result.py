"""The result of a deploy."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbtoolkit.deployment.fingerprint_proof import Proof
from nbtoolkit.deployment.rollout import RolloutMethod
from nbtoolkit.endpoint import Endpoint
from nbtoolkit.serving.release import Release
from nbtoolkit.sync import SyncResult
from nbtoolkit.target import Target
from nbtoolkit.utils.display import FactTable


@dataclass(frozen=True, repr=False)
class Deployment(FactTable):
    """A served release: its endpoint, its proof, the files sent, and how to roll back.

    ``seconds`` is the time from the call to the proof; ``previous`` the id of the previous release.
    """

    release: Release
    endpoint: Endpoint
    proof: Proof
    target: Target = field(repr=False)
    sync: SyncResult
    seconds: float
    how: RolloutMethod
    previous: str | None = None
    phases: str = ""
    """The phases of the startup with their seconds, if the target reports them."""

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of the table, as label and text."""
        release, has_key = self.release, bool(self.endpoint.key.get_secret_value())
        rows = [
            ("endpoint", self.endpoint.url),
            *([("key", f"endpoint.key; kept in {self.target.key_location}")] if has_key else []),
            ("release", f"{release.id}, by {self.how}, {self.seconds:.1f} s"),
            *([("start", self.phases)] if self.phases else []),
        ]
        if release.base:
            rows.append(("base", release.base.name))
        rows += [
            (f"adapter {one.name}", f"sha256 {one.sha256[:16]}…, rank {one.rank}") for one in release.adapters
        ]
        if release.override_reason:
            rows.append(("override", release.override_reason))
        call = "rollback()" if self.target.name == "local" else "rollback(target=deployment.target)"
        back = (
            f"{call} restores {self.previous}"
            if self.previous
            else "nothing was deployed before this release"
        )
        return [
            *rows,
            ("sent", str(self.sync)),
            ("proof", str(self.proof)),
            ("go back", back),
            ("stop", "deployment.target.stop()"),
        ]
