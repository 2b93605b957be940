"""Deploys under test: the app they go to, what is there before, and what must hold afterwards."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nbtoolkit import AzureTarget, DeploySettings, deploy
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble
from tests.support import stub_deploy

from .listener import Listener
from .provision_steps import Provisioning
from .share_checks import broken_state, pointers, torn, word_of
from .steps import new_cloud

NOT_PUT_BACK = "Restoring the previous release failed too"
"""What a deploy says that lost Azure for good in the middle; only then may two releases be mixed up."""
ATTEMPTS = 9


class Serving:
    """An app that was provisioned, and the releases that it was given; what the deploy steps share."""

    def __init__(self, double: AzureDouble, root: Path) -> None:
        self.double = double
        self._making = Provisioning(double, root)
        self._making.prepare()
        self._making.run(Progress())
        self.workspace = self._making.workspace
        self.place = ResourceNames.read(self.workspace)
        self.base = stub_deploy.base(self.workspace.root / "tiny")
        self.share: Path = double.files.folder(self.place.storage_account, self.place.file_share)
        self.concurrency = 4
        self._words = itertools.count()
        self.before: str | None = None
        self.settings = self.release()

    def release(self, **more: Any) -> DeploySettings:
        """Settings that serve a word that was never served."""
        self.word = f"w{next(self._words)}"
        folder = stub_deploy.adapter(self.workspace.root / "adapters" / self.word, self.word)
        stub_deploy.report(self.workspace, folder, self.base, self.word)
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
