"""Provision steps: a new group, changed settings, an added workload profile."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from nbtoolkit import ProvisionSettings, Workspace, provision
from nbtoolkit.azure.arm import created_resources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from tests.azure_double import SUBSCRIPTION, AzureDouble, Call

from .share_checks import workspace_problems
from .steps import new_cloud

REGION = "westus3"
_numbers = itertools.count()


class ProvisionStep:
    """The first provision of a new resource group."""

    name = "provision"

    def __init__(self, double: AzureDouble, root: Path) -> None:
        self._double = double
        self._root = root
        self._cloud = new_cloud()
        self._group = ""
        self.changes: dict[str, Any] = {}
        """Settings that differ from the cheapest ones."""
        double.arm.guards.append(self._count_start)
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

    def check_after_fault(self, error: Exception | None) -> list[str]:
        problems = workspace_problems(self.workspace.root)
        if error is not None and self.workspace.path("infra/inference.config.json").exists():
            problems.append("a failed run wrote the config file")
        if self._starts > 1:
            problems.append(f"{self._starts} deployments were started")
        self._starts = 0
        if error is None:
            problems += self._unreadable()
        return problems

    def check_after_retry(self) -> list[str]:
        problems = workspace_problems(self.workspace.root) + self._unreadable()
        if self._starts > 1:
            problems.append(f"{self._starts} deployments were started by the next run")
        again = provision(self.settings, workspace=self.workspace, cloud=new_cloud())
        if again.changed:
            problems.append("a third run had changes")
        known = {one.lower() for one in created_resources.recall(self.workspace)}
        start = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/{self._group}/providers/".lower()
        keys = [key for key in self._double.arm.resources if key.startswith(start)]
        kept = [key for key in keys if "deployments" not in key and key.count("/") == 8]
        problems += [f"{key} exists and is unknown to teardown" for key in kept if key not in known]
        if len(kept) != 4:
            problems.append(f"the resources are {kept}")
        return problems

    def forget_starts(self) -> None:
        """Reset the count of deployments."""
        self._starts = 0

    def drop(self) -> None:
        """Start deleting the group and delete the workspace."""
        groups: Any = self._cloud.resources(SUBSCRIPTION).resource_groups
        groups.begin_delete(self._group, polling=False)
        shutil.rmtree(self.workspace.root)

    @property
    def settings(self) -> ProvisionSettings:
        """The cheapest settings in this group, with the changes."""
        return ProvisionSettings(
            subscription=SUBSCRIPTION,
            resource_group=self._group,
            location=REGION,
            create_resource_group=True,
            **{"gpu": "none", **self.changes},
        )

    def _unreadable(self) -> list[str]:
        try:
            names = ResourceNames.read(self.workspace)
        except NbtoolkitError as error:
            return [str(error)]
        return [] if names.endpoint else ["the config file has no endpoint"]

    def _count_start(self, call: Call) -> None:
        """Count started deployments; one refused because another runs was not started."""
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


class ChangeSettingsStep:
    """A provision with changed settings, which only writes the app."""

    name = "change"

    def __init__(self, step: ProvisionStep) -> None:
        self._provision = step

    def prepare(self) -> None:
        step = self._provision
        step.forget_starts()
        step.changes = {"max_replicas": step.changes.get("max_replicas", 1) % 5 + 1}

    def run(self, progress: Progress) -> object:
        return self._provision.run(progress)

    def watched(self) -> AbstractContextManager[None]:
        return self._provision.watched()

    def check_after_fault(self, error: Exception | None) -> list[str]:
        return self._provision.check_after_fault(None)

    def check_after_retry(self) -> list[str]:
        return self._provision.check_after_retry()


class AddProfileStep:
    """A provision with a GPU in an environment without one, which adds a workload profile."""

    name = "add a profile"

    def __init__(self, double: AzureDouble, root: Path) -> None:
        self._provision = ProvisionStep(double, root)

    def prepare(self) -> None:
        self._provision.changes = {}
        self._provision.prepare()
        self._provision.run(Progress())
        self._provision.forget_starts()
        self._provision.changes = {"gpu": "T4"}

    def run(self, progress: Progress) -> object:
        return self._provision.run(progress)

    def watched(self) -> AbstractContextManager[None]:
        return self._provision.watched()

    def check_after_fault(self, error: Exception | None) -> list[str]:
        return self._provision.check_after_fault(None)

    def check_after_retry(self) -> list[str]:
        return self._provision.check_after_retry()
