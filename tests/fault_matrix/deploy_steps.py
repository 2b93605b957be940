"""Deploy steps: the app, its state before the step, and the checks after it."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nbtoolkit import AzureTarget, DeploySettings, deploy
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble
from tests.support import stub_deploy
from tests.support.request_loop import RequestLoop

from .provision_steps import ProvisionStep
from .share_checks import pointers, share_problems, word_of, workspace_problems
from .steps import new_cloud

NOT_RESTORED = "Restoring the previous release failed too"
"""Text of the error if Azure stayed unreachable; only then may pointer and served release differ."""
ATTEMPTS = 9


class ServedApp:
    """A provisioned app and the releases deployed to it, shared by all deploy steps."""

    def __init__(self, double: AzureDouble, root: Path) -> None:
        self.double = double
        self._provision = ProvisionStep(double, root)
        self._provision.prepare()
        self._provision.run(Progress())
        self.workspace = self._provision.workspace
        self.names = ResourceNames.read(self.workspace)
        self.base = stub_deploy.base(self.workspace.root / "tiny")
        self.share: Path = double.files.folder(self.names.storage_account, self.names.file_share)
        self.concurrency = 4
        self._words = itertools.count()
        self.before: str | None = None
        self.settings = self.new_settings()

    def new_settings(self) -> DeploySettings:
        """Return settings that serve a new word."""
        self.word = f"w{next(self._words)}"
        folder = stub_deploy.adapter(self.workspace.root / "adapters" / self.word, self.word)
        stub_deploy.report(self.workspace, folder, self.base, self.word)
        values = {"adapters": {"tone": folder}, "base": "tiny", "timeout": 60, "wheels_lock": "none"}
        return DeploySettings(**{**values, "target": "azure", "max_concurrency": self.concurrency})

    def target(self) -> AzureTarget:
        return AzureTarget(self.workspace, new_cloud(), poll=0.1)

    def sign_in_to_share(self, *, by_token: bool) -> None:
        """Assign the role for the share's data to the signed-in account, or use the account key."""
        self.double.files.accounts[self.names.storage_account].backup_role = by_token

    def scale_to_zero(self) -> None:
        """Wait until no replica runs; a failed deploy may keep the app awake for a minute."""
        for _ in range(ATTEMPTS):
            with suppress(TimeoutError):
                self.double.apps.scale_to_zero(self.names.app, 10)
                return
        raise TimeoutError(f"{self.names.app} does not scale to zero")

    def empty(self) -> None:
        """Scale to zero and delete all releases."""
        self.scale_to_zero()
        shutil.rmtree(self.share / "nbtoolkit", ignore_errors=True)
        self.before = None

    def serve(self) -> None:
        """Ensure that a release is served."""
        found = pointers(self.share)
        if not found or not self.double.apps.app(self.names.app).living():
            deploy(self.new_settings(), target=self.target())
            found = pointers(self.share)
        self.before = word_of(self.share, found[-1])

    def says(self) -> str:
        return self.target().endpoint().chat("hi", "tone", stream=False, max_tokens=1).strip()


class DeployStep:
    """A deploy of a new adapter: the first one, a hot swap, or with a restart."""

    def __init__(self, app: ServedApp, name: str) -> None:
        self._app = app
        self.name = name
        self._client_problems: list[str] = []

    def prepare(self) -> None:
        app = self._app
        if self.name in ("start", "start of a stopped app"):
            app.empty()
            if self.name != "start":
                app.target().stop()
        else:
            app.serve()
        if self.name == "restart":
            app.concurrency = 4 + app.concurrency % 4 + 1
        app.settings = app.new_settings()

    def run(self, progress: Progress) -> object:
        return deploy(self._app.settings, target=self._app.target(), progress=progress)

    @contextmanager
    def watched(self) -> Iterator[None]:
        app = self._app
        if app.before is None:
            yield
            return
        with RequestLoop(app.target().endpoint(), interval=0.1) as requests:
            yield
        words = {word for _, word in requests.answers} - {app.before, app.word}
        self._client_problems = [
            f"{status or 'no response'} during the step: {text}" for status, text in requests.failures
        ] + [f"the response during the step was {word}" for word in sorted(words)]

    def check_after_fault(self, error: Exception | None) -> list[str]:
        app = self._app
        problems = [
            *self._client_problems,
            *workspace_problems(app.workspace.root),
            *share_problems(app.share),
        ]
        self._client_problems = []
        found = pointers(app.share)
        public = word_of(app.share, found[-1]) if found and not problems else None
        if error is None:
            if public != app.word or app.says() != app.word:
                problems.append(f"the deploy succeeded, and the active release serves {public}")
        elif app.before is not None:
            answer = _stable_answer(app, public)
            if answer != public and NOT_RESTORED not in str(error):
                problems.append(f"the active release serves {public}, the answer is {answer}")
            if answer not in (app.before, app.word):
                problems.append(f"the answer is {answer}")
        return problems

    def check_after_retry(self) -> list[str]:
        app = self._app
        problems = [*workspace_problems(app.workspace.root), *share_problems(app.share)]
        if (answer := app.says()) != app.word:
            problems.append(f"the answer after the next run is {answer}, not {app.word}")
        return problems


def _stable_answer(app: ServedApp, wanted: str | None) -> str:
    """Return the answer once a running hot swap has ended."""
    answer = ""
    pause = threading.Event()
    for _ in range(40):
        try:
            answer = app.says()
        except NbtoolkitError as error:
            answer = str(error)
        if answer == wanted:
            break
        pause.wait(0.25)
    return answer
