"""An exception at the model level is a finding with cause and remedy, and the other checks still run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import SmokeSettings, Workspace, smoke_test
from nbtoolkit.errors import Cancelled, InvalidBase
from nbtoolkit.smoke import workflow
from nbtoolkit.smoke.check import Check, CheckFunction, CheckOutcome
from nbtoolkit.smoke.model_level.failure_causes import explain
from nbtoolkit.smoke.model_level.messages import ModelTask
from nbtoolkit.smoke.model_process import MODEL_CHECKS, run_model_level
from tests.support import sick_bases
from tests.support.model_checks import model_task
from tests.support.tiny_models import tiny_adapter, tiny_base

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft and transformers, which run elsewhere


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("smoke-failures")
    tiny_base(root / "base", layers=1)
    tiny_adapter(root / "adapter", root / "base", alpha=8)
    return root


@pytest.fixture
def base(models: Path, tmp_path: Path) -> Path:
    """A copy of the base, to damage."""
    return Path(shutil.copytree(models / "base", tmp_path / "base"))


SHORT: dict[str, Any] = {"answer_tokens": 2, "dtype": "float32"}


def run_checks(task: ModelTask) -> dict[str, Check]:
    """Run the model level in this process."""
    from nbtoolkit.smoke.model_level.__main__ import _run

    messages: list[Any] = []
    _run(task, messages.append)
    return {message.check.id: message.check for message in messages if message.kind == "check"}


@pytest.mark.parametrize("method", sick_bases.METHODS)
def test_quantized_base_that_does_not_load_names_the_method(models: Path, base: Path, method: str) -> None:
    adapter = Path(shutil.copytree(models / "adapter", base.parent / "adapter"))
    sick_bases.edit_json(adapter / "adapter_config.json", base_model_name_or_path="org/tiny-unsloth-bnb-4bit")
    checks = run_checks(model_task(sick_bases.stored_quantized(base, method), adapter, **SHORT))
    failed = next(one for one in checks.values() if one.verdict == "fail")
    assert failed.id == "G1"
    assert f"stored quantized ({method})" in failed.summary
    assert "perhaps org/tiny;" in failed.remedy
    assert checks["G2"].summary == "skipped: G1 failed"


@pytest.mark.parametrize(
    ("name", "check"),
    [("config.json", "A4"), ("generation_config.json", "G1"), ("tokenizer_config.json", "G3")],
)
def test_byte_order_mark_is_named_with_its_file(models: Path, base: Path, name: str, check: str) -> None:
    checks = run_checks(model_task(sick_bases.byte_order_mark(base, name), models / "adapter", **SHORT))
    assert [one.id for one in checks.values() if one.verdict == "fail"] == [check]
    assert f"{name} begins with a byte order mark" in checks[check].summary
    assert checks.keys() | {"A3"} == MODEL_CHECKS.keys()


@pytest.mark.parametrize("damage", [sick_bases.cut_tokenizer, sick_bases.unknown_pre_tokenizer])
def test_broken_tokenizer_fails_g3_and_loses_no_other_check(models: Path, base: Path, damage: Any) -> None:
    checks = run_checks(model_task(damage(base), models / "adapter", **SHORT))
    assert [one.id for one in checks.values() if one.verdict == "fail"] == ["G3"]
    assert checks["A4"].verdict == "pass"
    assert checks["G1"].verdict in ("pass", "warn")
    assert checks["G2"].summary == "skipped: the tokenizer cannot be loaded, see G3"


def test_problem_of_the_tokenizer_in_force_is_reported_by_g3(models: Path) -> None:
    checks = run_checks(
        model_task(models / "base", models / "adapter", {"tokenizer_problem": "no such file"}, **SHORT)
    )
    assert (checks["G3"].verdict, "no such file" in checks["G3"].summary) == ("fail", True)


@pytest.mark.parametrize(
    ("error", "summary", "remedy"),
    [
        (MemoryError("99 GiB"), "out of memory: 99 GiB", "nf4"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory", "smaller base"),
        (ModuleNotFoundError("No module named 'peft'", name="peft"), "peft is not installed", "pip install"),
        (ValueError("please pass trust_remote_code=True"), "code of its own", "without code"),
        (KeyError("odd"), "KeyError: 'odd'", "report it"),
        (InvalidBase("It is empty.", next_step="fill it"), "It is empty.", "fill it"),
    ],
)
def test_exception_is_explained(models: Path, error: Exception, summary: str, remedy: str) -> None:
    found = explain(error, model_task(models / "base", models / "adapter", **SHORT))
    assert (found.verdict, summary in found.summary, remedy in found.remedy) == ("fail", True, True)


DEATHS = {
    "SIGKILL": "import os; os.kill(os.getpid(), 9)",
    "SIGSEGV": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "exit status 1": "raise SystemExit('gone')",
    "not a message": "print('what?')",
    "took over": "import time; time.sleep(60)",
}


@pytest.mark.parametrize("cause", DEATHS)
def test_dead_process_is_a_finding_of_the_running_check(
    models: Path, workspace_root: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    says = 'import sys; print(\'{"kind": "start", "id": "G4"}\', flush=True)\n'
    command = (sys.executable, "-c", says + DEATHS[cause])
    timeout = 0.5 if cause == "took over" else 60

    def run(task: ModelTask, progress: Any, _: float) -> Any:
        return run_model_level(task, progress, timeout, command)

    monkeypatch.setattr(workflow, "run_model_level", run)
    workspace = Workspace(workspace_root)
    settings = SmokeSettings(adapter=models / "adapter", base=str(models / "base"))
    report = smoke_test(settings, workspace=workspace)
    checks = {one.id: one for one in report.checks if one.level != "static"}
    assert [one.id for one in report.failed] == ["G4"] or cause == "took over"
    assert cause in report.failed[-1].summary
    assert report.failed[-1].remedy
    assert {one.verdict for one in checks.values()} == {"fail", "skipped"}
    assert checks.keys() >= {"G1", "G2", "G3", "G4", "G7"}
    assert len(list(workspace.reports.iterdir())) == 1


def test_exception_of_a_check_is_its_finding_and_a_cancel_is_none() -> None:
    def full_disk(_: None) -> CheckOutcome:
        raise OSError(28, "No space left on device")

    def cancel(_: None) -> CheckOutcome:
        raise Cancelled("It was cancelled.", next_step="run it again")

    found = CheckFunction("G7", "contract", "contract", full_disk).run_safely(None)
    assert (found.verdict, "No space left on device" in found.summary) == ("fail", True)
    assert "full_disk" in "".join(found.evidence["traceback"])
    with pytest.raises(Cancelled):
        CheckFunction("G7", "contract", "contract", cancel).run_safely(None)


def test_exception_in_the_child_ends_it_with_an_exit_status(models: Path) -> None:
    program = (
        "import sys\n"
        "from nbtoolkit.smoke.model_level import __main__ as level\n"
        "def run(*_): raise LookupError('odd')\n"
        "level._run = run\n"
        "sys.exit(level.main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdin
        process.stdin.write(
            model_task(models / "base", models / "adapter", **SHORT).model_dump_json().encode() + b"\n"
        )
        process.stdin.flush()  # the pipe stays open
        assert process.wait(timeout=60) == 1, "an abort has a negative status"
