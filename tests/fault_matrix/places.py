"""The steps under test, each with what is there before it and what must hold whatever became of it."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import deploy_double

from nbtoolkit import AzureTarget, DeploySettings, ProvisionSettings, Workspace, deploy, provision
from nbtoolkit.azure import created
from nbtoolkit.azure.cloud import Cloud
from nbtoolkit.azure.login import SharedCredential
from nbtoolkit.azure.provisioned import Provisioned
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from tests.azure_double import SUBSCRIPTION, AzureDouble, Call

from .listener import Listener
from .share_checks import broken_state, pointers, torn, word_of

REGION = "westus3"
NOT_PUT_BACK = "Putting back what served before failed too"
"""What a deploy says that lost Azure for good in the middle; only then may two releases be mixed up."""
ATTEMPTS = 9
_clouds: list[Cloud] = []
_numbers = itertools.count()


class Step(Protocol):
    """One step: made ready, run, judged after a failure and after the run that followed."""

    name: str

    def prepare(self) -> None:
        """Bring about what the step begins with."""

    def run(self, progress: Progress) -> object:
        """Run it, as a new process would: nothing is signed in yet."""

    def watched(self) -> Any:
        """A context in which it is seen what happens to others meanwhile."""

    def left(self, error: Exception | None) -> list[str]:
        """What is wrong after a run that failed, or succeeded (None), in words."""

    def finished(self) -> list[str]:
        """What is wrong after the run that followed, in words."""


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
            place = Provisioned.read(self.workspace)
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


class Serving:
    """An app that was provisioned, and the releases that it was given; what the deploy steps share."""

    def __init__(self, double: AzureDouble, root: Path) -> None:
        self.double = double
        self._making = Provisioning(double, root)
        self._making.prepare()
        self._making.run(Progress())
        self.workspace = self._making.workspace
        self.place = Provisioned.read(self.workspace)
        self.base = deploy_double.base(self.workspace.root / "tiny")
        self.share: Path = double.files.folder(self.place.storage_account, self.place.file_share)
        self.concurrency = 4
        self._words = itertools.count()
        self.before: str | None = None
        self.settings = self.release()

    def release(self, **more: Any) -> DeploySettings:
        """Settings that serve a word that was never served."""
        self.word = f"w{next(self._words)}"
        folder = deploy_double.adapter(self.workspace.root / "adapters" / self.word, self.word)
        deploy_double.report(self.workspace, folder, self.base, self.word)
        given = {"adapters": {"tone": folder}, "base": "tiny", "timeout": 20, "wheels_lock": "none"}
        return DeploySettings(**{**given, "target": "azure", "max_concurrency": self.concurrency, **more})

    def target(self) -> AzureTarget:
        return AzureTarget(self.workspace, new_cloud(), poll=0.1)

    def sign_in_to_share(self, *, by_token: bool) -> None:
        """Give who is signed in the role for the share's data, or leave them the account's key."""
        self.double.files.accounts[self.place.storage_account].backup_role = by_token

    def sleep(self) -> None:
        """Nothing runs; a deploy that failed may keep the app awake for a minute."""
        for _ in range(ATTEMPTS):
            with suppress(TimeoutError):
                self.double.apps.scale_to_zero(self.place.app, 10)
                return
        raise TimeoutError(f"{self.place.app} does not fall asleep")

    def empty(self) -> None:
        """Nothing runs, and nothing was ever deployed."""
        self.sleep()
        shutil.rmtree(self.share / "nbtoolkit", ignore_errors=True)
        self.before = None

    def serve(self) -> None:
        """Have something served."""
        found = pointers(self.share)
        if not found or not self.double.apps.app(self.place.app).living():
            deploy(self.release(), target=self.target())
            found = pointers(self.share)
        self.before = word_of(self.share, found[-1])

    def says(self) -> str:
        return self.target().endpoint().chat("hi", "tone", stream=False, max_tokens=1).strip()

    def drop(self) -> None:
        self._making.drop()


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


class Deploying:
    """A deploy of a new adapter: onto nothing, into a running server, or with a restart."""

    def __init__(self, serving: Serving, name: str) -> None:
        self._serving = serving
        self.name = name
        self._seen: list[str] = []

    def prepare(self) -> None:
        serving = self._serving
        if self.name in ("start", "start of a stopped app"):
            serving.empty()
            if self.name != "start":
                serving.target().stop()
        else:
            serving.serve()
        if self.name == "restart":
            serving.concurrency = 4 + serving.concurrency % 4 + 1
        serving.settings = serving.release()

    def run(self, progress: Progress) -> object:
        return deploy(self._serving.settings, target=self._serving.target(), progress=progress)

    @contextmanager
    def watched(self) -> Iterator[None]:
        serving = self._serving
        if serving.before is None:
            yield
            return
        with Listener(serving.target().endpoint(), {serving.before, serving.word}) as listener:
            yield
        self._seen = listener.wrong

    def left(self, error: Exception | None) -> list[str]:
        serving = self._serving
        problems = [*self._seen, *broken_state(serving.workspace.root), *torn(serving.share)]
        self._seen = []
        found = pointers(serving.share)
        public = word_of(serving.share, found[-1]) if found and not problems else None
        if error is None:
            if public != serving.word or serving.says() != serving.word:
                problems.append(f"it succeeded, and {public} is public")
        elif serving.before is not None:
            said = _settled(serving, public)
            if said != public and NOT_PUT_BACK not in str(error):
                problems.append(f"{public} is public and {said} answers")
            if said not in (serving.before, serving.word):
                problems.append(f"{said} answers")
        return problems

    def finished(self) -> list[str]:
        serving = self._serving
        problems = [*broken_state(serving.workspace.root), *torn(serving.share)]
        if (said := serving.says()) != serving.word:
            problems.append(f"{said} answers after the next run, not {serving.word}")
        return problems


def _settled(serving: Serving, wanted: str | None) -> str:
    """What answers, once a swap that is under way has ended."""
    said = ""
    pause = threading.Event()
    for _ in range(40):
        try:
            said = serving.says()
        except NbtoolkitError as error:
            said = str(error)
        if said == wanted:
            break
        pause.wait(0.25)
    return said


def new_cloud() -> Cloud:
    """A sign-in that no other step has used."""
    _clouds.append(Cloud(SharedCredential()))
    return _clouds[-1]


def close_clouds() -> None:
    """Close the connections of all that were made so far."""
    while _clouds:
        _clouds.pop().close()
