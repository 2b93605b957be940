"""The smoke test: static checks first, then model and contract, each only where the one before holds."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from nbtoolkit._version import __version__
from nbtoolkit.errors import BrokenFile, InvalidAdapter
from nbtoolkit.models import share_models as in_place
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.releases.tokenizer import tokenizer_in_force
from nbtoolkit.serving.content_hash import adapter_sha256
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.smoke import model_process as child
from nbtoolkit.smoke import static
from nbtoolkit.smoke.check import Check, checks_of
from nbtoolkit.smoke.context import Subject
from nbtoolkit.smoke.model_check_ids import skipped
from nbtoolkit.smoke.model_level.messages import Facts, Found, Result, Task
from nbtoolkit.smoke.report import SmokeReport, newest
from nbtoolkit.smoke.settings import SmokeSettings
from nbtoolkit.target_factory import share_containing
from nbtoolkit.workspace import Workspace

_VERSIONS = ("torch", "transformers", "peft", "safetensors", "bitsandbytes")
_ = static  # importing it registers its checks


def smoke_test(
    settings: SmokeSettings, *, progress: Progress | None = None, workspace: Workspace | None = None
) -> SmokeReport:
    """Test an adapter on its base and return the report, which is saved in the workspace.

    A failing check is in the report, not raised: see :meth:`SmokeReport.raise_for_failure`. With
    ``reuse`` a green report of the same bytes, settings and versions is returned as it is. Raises
    :class:`InvalidBase` where the base cannot be read, :class:`SmokeTestFailed` where the model level's
    process dies, and ``Cancelled``. The static level takes seconds; the model level loads base and adapter
    in a child process; the contract level starts the real server for a moment.
    """
    progress = progress or SILENT()
    workspace = workspace or Workspace.find()
    progress.phase("Smoke test: reading the adapter and the base")
    base = _base(settings, workspace, progress)
    subject = Subject(_adapter_folder(settings, workspace, progress), base, settings)
    sha256 = adapter_sha256(subject.folder)
    if settings.reuse and (known := _reusable(workspace, subject, sha256, progress)):
        progress.note(f"taken from the green report of {known.created:%Y-%m-%d %H:%M:%S} UTC")
        return known
    run = _SmokeRun(subject, sha256, progress)
    run.static_level()
    if "model" in settings.levels:
        run.model_level()
    if "contract" in settings.levels:
        run.contract_level(workspace)
    report = run.report()
    report.save(workspace)
    return report


def _base(settings: SmokeSettings, workspace: Workspace, progress: Progress) -> Base:
    if path := in_place.share_path(settings.base):
        return in_place.fetch_base(share_containing(path, workspace), path, workspace, progress)
    return Base.resolve(settings.base, workspace, progress)


def _adapter_folder(settings: SmokeSettings, workspace: Workspace, progress: Progress) -> Path:
    if path := in_place.share_path(settings.adapter):
        return in_place.fetch_adapter(share_containing(path, workspace), path, workspace, progress)
    return workspace.path(settings.adapter)


class _SmokeRun:
    """One smoke test on its way."""

    def __init__(self, subject: Subject, sha256: str, progress: Progress) -> None:
        self.subject = subject
        self.sha256 = sha256
        self.progress = progress
        self.checks: list[Check] = []
        self.facts: Facts | None = None
        self.fingerprint: Fingerprint | None = None

    @property
    def failed(self) -> list[str]:
        return [one.id for one in self.checks if one.verdict == "fail"]

    def static_level(self) -> None:
        """Run the static checks; those that need a readable adapter are skipped where it is none."""
        for one in checks_of("static"):
            self.progress.phase(f"Smoke test: {one.id} {one.title}")
            try:
                self.checks.append(one(self.subject))
            except InvalidAdapter as error:
                blamed = getattr(error, "check", "A1")
                if blamed == one.id or blamed not in self.failed:
                    raise
                self.checks.append(one.skipped(f"{blamed} failed, so there is nothing to look at"))

    def model_level(self) -> None:
        """Run the model checks in their process, unless a static check failed."""
        if self.failed:
            self.checks += skipped(f"{self.failed[0]} failed")
            return
        settled = tuple(one.id for one in self.checks if one.id == "A3" and one.verdict != "undecided")
        task = task_of(self.subject, self.subject.adapter, settled)
        for message in child.model_level(task, self.progress, self.subject.settings.timeout):
            match message:
                case Result(check=found):
                    self.checks.append(found)
                case Facts():
                    self.facts = message
                case Found(fingerprint=found):
                    self.fingerprint = found
                case _:
                    pass

    def contract_level(self, workspace: Workspace) -> None:
        """Let the real server serve the adapter, unless something failed or there is no fingerprint."""
        from nbtoolkit.smoke import contract_level as contract

        reason = f"{self.failed[0]} failed" if self.failed else ""
        if not reason and self.fingerprint is None:
            reason = "the model level did not run, and only it takes the fingerprint"
        if reason or self.fingerprint is None:
            self.checks += [one.skipped(reason) for one in checks_of("contract")]
            return
        subject = contract.ContractSubject(
            self.subject, self.fingerprint, self.report(), workspace, self.progress
        )
        self.checks += [one(subject) for one in checks_of("contract")]

    def report(self) -> SmokeReport:
        """Return the report of what was found."""
        subject, settings = self.subject, self.subject.settings
        return SmokeReport(
            created=datetime.now(UTC),
            adapter=subject.folder.name,
            adapter_sha256=self.sha256,
            base=subject.base.name,
            base_sha256=subject.base.sha256,
            base_revision=revision(subject),
            engine=settings.engine,
            dtype=self.facts.dtype if self.facts else None,
            quantization=settings.quantization,
            device=self.facts.device if self.facts else None,
            levels=settings.levels,
            versions=versions(),
            settings=settings.deciding,
            checks=tuple(self.checks),
            fingerprint=self.fingerprint,
        )


def task_of(subject: Subject, adapter: Adapter, settled: tuple[str, ...]) -> Task:
    """Return what the model level's process is told; tokenizer and template are those in force."""
    base = subject.base
    tokenizer = tokenizer_in_force(
        base.path, str(base.path), {adapter.name: (adapter.path, str(adapter.path))}
    )
    return Task(
        settings=subject.settings.model_dump(mode="json"),
        adapter_path=str(adapter.path),
        adapter_sha256=adapter.sha256,
        base_path=str(base.path),
        base_sha256=base.sha256,
        tokenizer_path=tokenizer.path,
        chat_template=tokenizer.chat_template,
        settled=settled,
    )


def versions() -> dict[str, str]:
    """Return the versions of what decides the outcome, without importing it."""
    found = {"nbtoolkit": __version__}
    for name in _VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # optional
    return found


def revision(subject: Subject) -> str | None:
    """Return the base's commit where its folder is a snapshot of the hub's cache."""
    path = subject.base.path
    return path.name if path.parent.name == "snapshots" else None


def _reusable(workspace: Workspace, subject: Subject, sha256: str, progress: Progress) -> SmokeReport | None:
    try:
        known = newest(workspace, sha256, subject.base.sha256)
    except BrokenFile as error:
        progress.note(f"testing again: {error.message}")
        return None
    same = (
        known is not None
        and known.green
        and known.settings == subject.settings.deciding
        and known.versions == versions()
    )
    return known if same else None
