"""What a deploy did, as a value that prints well."""

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
    """A release that serves: where, with what proof, what was sent, and how to go back.

    ``seconds`` is the time from the call to the proof; ``previous`` the id of what served before.
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
    """What its start went through and for how long, where the target tells."""

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is to know, as label and text."""
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
            f"{call} puts back {self.previous}"
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
