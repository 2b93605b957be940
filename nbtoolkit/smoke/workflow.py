"""The smoke test: the static, model and contract levels in order, each only if the one before passed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from nbtoolkit._version import __version__
from nbtoolkit.errors import BrokenFile, Cancelled, InvalidAdapter, NbtoolkitError
from nbtoolkit.golden.golden_file import golden_sha256
from nbtoolkit.golden.prompts import GoldenPrompt
from nbtoolkit.models.adapter_repair import loadable_folder
from nbtoolkit.models.adapter_resolver import resolve_adapter_folder
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.folder_names import hub_source, public_name
from nbtoolkit.models.share_models import download_adapter, download_base, share_path
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.releases.tokenizer import tokenizer_in_force
from nbtoolkit.serving.content_hash import adapter_sha256
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.serving.release import ServedTokenizer
from nbtoolkit.smoke.check import (
    Check,
    CheckFunction,
    CheckOutcome,
    SmokeContext,
    exception_finding,
    registered_checks,
)
from nbtoolkit.smoke.golden_prompts import golden_prompts_of, previous_golden_answers
from nbtoolkit.smoke.model_level.messages import (
    CheckMessage,
    FactsMessage,
    FingerprintMessage,
    ModelTask,
    StartMessage,
)
from nbtoolkit.smoke.model_process import failed_model_check, run_model_level, skipped_model_checks
from nbtoolkit.smoke.report import SmokeReport, newest_report, previous_report
from nbtoolkit.smoke.settings import SmokeSettings
from nbtoolkit.smoke.static import (
    adapter_config,
    adapter_files,
    base_match,
    engine_support,
    memory_fit,
    vocabulary,
    weight_values,
)
from nbtoolkit.target_factory import share_containing
from nbtoolkit.workspace import Workspace

_VERSIONS = ("torch", "transformers", "peft", "safetensors", "bitsandbytes")
_ = (
    adapter_config,
    adapter_files,
    base_match,
    engine_support,
    memory_fit,
    vocabulary,
    weight_values,
)  # the import registers their checks


def smoke_test(
    settings: SmokeSettings, *, progress: Progress | None = None, workspace: Workspace | None = None
) -> SmokeReport:
    """Test an adapter on its base and return the report, which is saved in the workspace.

    A failed check is in the report and not raised: see :meth:`SmokeReport.raise_for_failure`. So is an
    exception during a check, and the death of the model level's process. With ``reuse``, a saved green report
    of the same bytes, settings and versions is returned. Raises :class:`InvalidBase` if the base cannot be
    read, :class:`BrokenFile` with the lines if a golden prompt is not valid, and ``Cancelled``. The static
    level takes seconds; the model level loads base and adapter in a child process; the contract level starts
    the real server on this machine and stops it.

    >>> settings = SmokeSettings(adapter="adapters/tone", base="models/base", levels=["static"])
    >>> report = smoke_test(settings).raise_for_failure()
    >>> report.green  # the other two levels did not run
    False
    """
    progress = progress or SILENT()
    workspace = workspace or Workspace.find()
    progress.phase("Smoke test: reading the adapter and the base")
    if path := share_path(settings.base):
        base = download_base(share_containing(path, workspace), path, workspace, progress)
    else:
        base = Base.resolve(settings.base, workspace, progress)
    if path := share_path(settings.adapter):
        folder = download_adapter(share_containing(path, workspace), path, workspace, progress)
    else:
        folder = resolve_adapter_folder(settings.adapter, workspace, progress)
    golden = golden_prompts_of(settings, folder, workspace)
    questions = tuple(message.content for prompt in golden for message in prompt.messages)
    context = SmokeContext(folder, base, settings, (*settings.prompts, *questions))
    sha256 = _adapter_sha256(context)
    run = _SmokeRun(context, sha256, progress, golden)
    if settings.reuse and (report := _reusable_report(workspace, run)):
        progress.note(f"taken from the green report of {report.created:%Y-%m-%d %H:%M:%S} UTC")
        return report
    run.static_level()
    if "model" in settings.levels:
        run.model_level(workspace)
    if "contract" in settings.levels:
        run.contract_level(workspace)
    report = run.report().compared_with(previous_report(workspace, sha256, base.sha256))
    report.save(workspace)
    return report


@dataclass
class _SmokeRun:
    """The results of one smoke test so far."""

    context: SmokeContext
    sha256: str
    progress: Progress
    golden: tuple[GoldenPrompt, ...] = ()
    checks: list[Check] = field(default_factory=list[Check])
    facts: FactsMessage | None = None
    fingerprint: Fingerprint | None = None

    @property
    def failed(self) -> list[str]:
        return [one.id for one in self.checks if one.verdict == "fail"]

    def static_level(self) -> None:
        """Run the static checks; skip those that need an adapter if it cannot be read."""
        for one in registered_checks("static"):
            self.progress.phase(f"Smoke test: {one.id} {one.title}")
            self.checks.append(self._run_static(one))

    def _run_static(self, check: CheckFunction[SmokeContext]) -> Check:
        try:
            return check.run_safely(self.context, InvalidAdapter)
        except InvalidAdapter as error:
            cause = error.check or "A1"
            if cause != check.id and cause in self.failed:
                return check.skipped(f"{cause} failed, so there is no adapter to check")
            return check.result(exception_finding(error))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that affect the result; of the golden prompts their hash."""
        return {
            **self.context.settings.result_settings,
            "golden_sha256": golden_sha256(self.golden) if self.golden else None,
        }

    def model_level(self, workspace: Workspace) -> None:
        """Run the model checks in their process, unless a static check failed."""
        if self.failed:
            self.checks += skipped_model_checks(f"{self.failed[0]} failed")
            return
        settled = tuple(one.id for one in self.checks if one.id == "A3" and one.verdict != "undecided")
        previous = previous_golden_answers(workspace, self.sha256, self.context.base.sha256, self.golden)
        done, running = set(settled), "G1"
        try:
            with loadable_folder(self.context.adapter) as folder:
                task = _build_task(self.context, folder, settled).model_copy(
                    update={"golden": self.golden, "previous": previous}
                )
                for message in run_model_level(task, self.progress, self.context.settings.timeout):
                    match message:
                        case StartMessage(id=id):
                            running = id
                        case CheckMessage(check=result):
                            self.checks.append(result)
                            done.add(result.id)
                        case FactsMessage():
                            self.facts = message
                        case FingerprintMessage(fingerprint=fingerprint):
                            self.fingerprint = fingerprint
                        case _:
                            pass
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001  the process died or timed out; the report is kept
            self.checks.append(failed_model_check(running, error))
            rest = skipped_model_checks(f"{running} failed")
            self.checks += [one for one in rest if one.id not in {*done, running}]

    def contract_level(self, workspace: Workspace) -> None:
        """Run the contract check on the real server, unless a check failed or there is no fingerprint."""
        from nbtoolkit.smoke.contract_level import ContractContext

        if self.context.settings.engine != "transformers" and not self.failed:
            reason = "this version starts only the transformers engine, so it does not prove another"
            undecided = CheckOutcome("undecided", reason, remedy="choose the engine transformers")
            self.checks += [one.result(undecided) for one in registered_checks("contract")]
            return
        if self.failed or self.fingerprint is None:
            not_run = "the model level did not run, and only it takes the fingerprint"
            reason = f"{self.failed[0]} failed" if self.failed else not_run
            self.checks += [one.skipped(reason) for one in registered_checks("contract")]
            return
        context = ContractContext(self.context, self.fingerprint, self.report(), workspace, self.progress)
        self.checks += [one.run_safely(context) for one in registered_checks("contract")]

    def report(self) -> SmokeReport:
        """Return the report of the results so far."""
        base, settings = self.context.base, self.context.settings
        return SmokeReport(
            created=datetime.now(UTC),
            adapter=public_name(self.context.folder),
            adapter_source=hub_source(self.context.folder),
            adapter_sha256=self.sha256,
            base=base.name,
            base_sha256=base.sha256,
            base_revision=base.path.name if base.path.parent.name == "snapshots" else None,  # in a hub cache
            engine=settings.engine,
            dtype=self.facts.dtype if self.facts else None,
            quantization=settings.quantization,
            device=self.facts.device if self.facts else None,
            levels=settings.levels,
            versions=_library_versions(),
            settings=self.settings,
            checks=tuple(self.checks),
            fingerprint=self.fingerprint,
            golden=self.golden,
        )


def _adapter_sha256(context: SmokeContext) -> str:
    """Return the hash of the adapter's files; an empty text if one cannot be read, which A1 reports."""
    with suppress(InvalidAdapter):
        return context.adapter.sha256
    with suppress(OSError):
        return adapter_sha256(context.folder)
    return ""


def _build_task(context: SmokeContext, folder: Path, settled: tuple[str, ...]) -> ModelTask:
    """Return the input of the model level's process, with the tokenizer and template in force."""
    base, adapter = context.base, context.adapter
    paths = {adapter.name: (adapter.path, str(adapter.path))}
    tokenizer, problem = ServedTokenizer(path=str(base.path), sha256=base.sha256), ""
    try:
        tokenizer = tokenizer_in_force(base.path, str(base.path), paths)
    except NbtoolkitError as error:  # check G3 reports it; the others run
        problem = str(error)
    return ModelTask(
        settings=context.settings,
        adapter_path=str(folder),
        adapter_sha256=adapter.sha256,
        base_path=str(base.path),
        base_sha256=base.sha256,
        tokenizer_path=tokenizer.path,
        chat_template=tokenizer.chat_template,
        tokenizer_problem=problem,
        settled=settled,
    )


def _library_versions() -> dict[str, str]:
    """Return the versions of the libraries that affect the result, without importing them."""
    versions = {"nbtoolkit": __version__}
    for name in _VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # optional
    return versions


def _reusable_report(workspace: Workspace, run: _SmokeRun) -> SmokeReport | None:
    try:
        report = newest_report(workspace, run.sha256, run.context.base.sha256)
    except BrokenFile as error:
        run.progress.note(f"testing again: {error.message}")
        return None
    same = (
        report is not None
        and report.green
        and report.settings == run.settings
        and report.versions == _library_versions()
    )
    return report if same else None
