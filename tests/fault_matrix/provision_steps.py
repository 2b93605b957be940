"""Provisions under test: of a new group, with other settings, with one more machine."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from nbtoolkit import ProvisionSettings, Workspace, provision
from nbtoolkit.azure.arm import created_resources as created
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from tests.azure_double import SUBSCRIPTION, AzureDouble, Call

from .share_checks import broken_state
from .steps import new_cloud

REGION = "westus3"
_numbers = itertools.count()


class Provisioning:
    """The first provision of a new resource group."""

    name = "provision"

    def __init__(self, double: AzureDouble, root: Path) -> None:
        self._double = double
        self._root = root
        self._cloud = new_cloud()
        self._group = ""
        self.changes: dict[str, Any] = {}
        """How the settings differ from those of a cheap trial."""
        double.arm.guards.append(self._see)
        self._starts = 0

    def prepare(self) -> None:
        if self._group:
            self.drop()
        self._group = f"rg-{next(_numbers)}"
        self._starts = 0
        folder = self._root / self._group
        (folder / "infra").mkdir(parents=True)
        self.workspace = Workspace(folder)

    def run(self, progress: Progress) -> object:
        return provision(
            self.settings, apply=True, workspace=self.workspace, cloud=new_cloud(), progress=progress
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        yield

    def left(self, error: Exception | None) -> list[str]:
        problems = broken_state(self.workspace.root)
        if error is not None and self.workspace.path("infra/inference.config.json").exists():
            problems.append("a run that failed wrote the config file")
        if self._starts > 1:
            problems.append(f"{self._starts} deployments were started")
        self._starts = 0
        if error is None:
            problems += self._unreadable()
        return problems

    def finished(self) -> list[str]:
        problems = broken_state(self.workspace.root) + self._unreadable()
        if self._starts > 1:
            problems.append(f"{self._starts} deployments were started by the next run")
        again = provision(self.settings, workspace=self.workspace, cloud=new_cloud())
        if again.changed:
            problems.append("a third run found something to do")
        ours = {one.lower() for one in created.recall(self.workspace)}
        start = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/{self._group}/providers/".lower()
        made = [key for key in self._double.arm.resources if key.startswith(start)]
        kept = [key for key in made if "deployments" not in key and key.count("/") == 8]
        problems += [f"{key} is there and no teardown knows of it" for key in kept if key not in ours]
        if len(kept) != 4:
            problems.append(f"{kept} is what there is")
        return problems

    def forget_starts(self) -> None:
        """Begin to count deployments anew."""
        self._starts = 0

    def drop(self) -> None:
        """Delete the group and do not wait for it."""
        groups: Any = self._cloud.resources(SUBSCRIPTION).resource_groups
        groups.begin_delete(self._group, polling=False)
        shutil.rmtree(self.workspace.root)

    @property
    def settings(self) -> ProvisionSettings:
        """Those of a cheap trial in this group, as changed."""
        return ProvisionSettings(
            subscription=SUBSCRIPTION,
            resource_group=self._group,
            location=REGION,
            create_resource_group=True,
            **{"gpu": "none", **self.changes},
        )

    def _unreadable(self) -> list[str]:
        try:
            place = ResourceNames.read(self.workspace)
        except NbtoolkitError as error:
            return [str(error)]
        return [] if place.endpoint else ["the config file has no endpoint"]

    def _see(self, call: Call) -> None:
        """Count deployments that begin; one that is refused since another runs has not begun."""
        name = str(call.id).lower()
        if (
            call.method == "PUT"
            and call.request
            and f"/{self._group}/" in name
            and "/deployments/nbtoolkit-" in name
        ):
            before = self._double.arm.get(call.id)
            if not before or before["properties"]["provisioningState"] not in ("Accepted", "Running"):
                self._starts += 1


class Changing:
    """A provision with other settings over what is there: the app is written, all else stays."""

    name = "change"

    def __init__(self, making: Provisioning) -> None:
        self._making = making

    def prepare(self) -> None:
        making = self._making
        making.forget_starts()
        making.changes = {"max_replicas": making.changes.get("max_replicas", 1) % 5 + 1}

    def run(self, progress: Progress) -> object:
        return self._making.run(progress)

    def watched(self) -> AbstractContextManager[None]:
        return self._making.watched()

    def left(self, error: Exception | None) -> list[str]:
        return self._making.left(None)

    def finished(self) -> list[str]:
        return self._making.finished()


class AddingMachine:
    """A provision with a GPU into an environment that has none: its list of machines is written."""

    name = "add a machine"

    def __init__(self, double: AzureDouble, root: Path) -> None:
        self._making = Provisioning(double, root)

    def prepare(self) -> None:
        self._making.changes = {}
        self._making.prepare()
        self._making.run(Progress())
        self._making.forget_starts()
        self._making.changes = {"gpu": "T4"}

    def run(self, progress: Progress) -> object:
        return self._making.run(progress)

    def watched(self) -> AbstractContextManager[None]:
        return self._making.watched()

    def left(self, error: Exception | None) -> list[str]:
        return self._making.left(None)

    def finished(self) -> list[str]:
        return self._making.finished()
