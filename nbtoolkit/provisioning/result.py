"""What a provision left behind, as a value that prints well."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.portal_urls import portal_url
from nbtoolkit.utils.display import FactTable


@dataclass(frozen=True, repr=False)
class Provision(FactTable, ResourceNames):
    """Where releases run now; ``created`` are the ids of what this run made, ``seconds`` how long it took."""

    created: tuple[str, ...] = field(default=(), repr=False)
    changed: bool = False
    seconds: float = 0.0
    costs: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    note: str = ""
    """What is not as it should be yet."""

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is to know, as label and text."""
        did = "nothing had to change" if not self.changed else f"{len(self.created)} resources created"
        rows = [
            ("app", self.app),
            (
                "endpoint",
                f"https://{self.endpoint.removeprefix('https://')}" if self.endpoint else "none yet",
            ),
            ("key", "kept in the app's secrets as nbtoolkit-api-key"),
            ("resource group", f"{self.resource_group} ({did}, {self.seconds:.0f} s)"),
            ("share", f"{self.storage_account}/{self.file_share}"),
            ("portal", portal_url(self.app_id)),
            *self.costs,
        ]
        rows += [("note", self.note)] if self.note else []
        return [*rows, ("next", "deploy an adapter"), ("remove", "teardown() of nbtoolkit.operate")]
