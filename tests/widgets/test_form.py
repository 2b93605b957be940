"""A form runs its plain function once, shows how it goes, and hands the result on by one rule."""

from __future__ import annotations

import _thread
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field, SecretStr

from nbtoolkit.errors import Cancelled, InvalidSettings, NotApplied, StaleResult
from nbtoolkit.progress import Progress
from nbtoolkit.settings import Settings
from nbtoolkit.widgets import notebook_env as frontend
from nbtoolkit.widgets.forms.background_run import RunStatus
from nbtoolkit.widgets.forms.form import Form
from nbtoolkit.workspace import Workspace

CANARY = "<img src=x onerror=alert(1)>"


class BakeSettings(Settings):
    cake: str = Field(description="what to bake")
    minutes: int = Field(default=1, ge=0)
    token: SecretStr | None = None


class Oven:
    """Answers each bake with the next of its outcomes; waits at the gate before it does."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.gate = threading.Event()
        self.gate.set()
        self.bakes: list[BakeSettings] = []

    def __call__(self, settings: BakeSettings, *, progress: Progress) -> Any:
        self.bakes.append(settings)
        progress.phase("Heating")
        while not self.gate.is_set():
            progress.sleep(0.01)
        progress.advance(1, 2, "trays")
        progress.note("smells good")
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def in_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("form", "frontend"):
        monkeypatch.setattr(f"nbtoolkit.widgets.{place}.is_interactive", lambda: True)


@pytest.fixture
def make(workspace: Workspace) -> Iterator[Callable[..., Form[BakeSettings, Any]]]:
    forms: list[Form[BakeSettings, Any]] = []

    def _make(run: Callable[..., Any], **options: Any) -> Form[BakeSettings, Any]:
        start = options.pop("settings", BakeSettings(cake="plum"))
        forms.append(Form(start, run, step="Bake", workspace=workspace, **options))
        return forms[-1]

    yield _make
    for form in forms:
        form.cancel()


def texts(widget: Any) -> str:
    """Return all that a widget tree shows."""
    own = str(getattr(widget, "value", "")) + str(getattr(widget, "description", ""))
    return own + "".join(texts(child) for child in getattr(widget, "children", ()))


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_never_run_runs_in_the_foreground_and_prints_each_line_once(make: Any, capsys: Any) -> None:
    oven = Oven("cake")
    assert make(oven).result() == "cake"
    printed = capsys.readouterr().out
    assert printed.count("Heating") == 1
    assert printed.count("smells good") == 1


def test_finished_with_the_same_values_returns_that_result_without_a_second_run(make: Any) -> None:
    oven = Oven("first", "second")
    form = make(oven)
    assert [form.result(), form.result()] == ["first", "first"]
    assert len(oven.bakes) == 1


def test_an_error_is_raised_again_by_every_result(make: Any) -> None:
    form = make(Oven(ValueError("burnt")))
    for _ in range(2):
        with pytest.raises(ValueError, match="burnt"):
            form.result()


def test_running_is_waited_for(make: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    form = make(oven)
    form.start()
    threading.Timer(0.3, oven.gate.set).start()
    assert form.result() == "cake"
    assert len(oven.bakes) == 1


def test_changed_values_make_the_result_stale_by_name_until_they_are_set_back(make: Any) -> None:
    form = make(Oven("cake"))
    form.result()
    form.set(cake="apple", minutes=5)
    with pytest.raises(StaleResult, match="Cake, Minutes") as caught:
        form.result()
    assert caught.value.__dict__["fields"] == ["cake", "minutes"]
    form.set(cake="plum", minutes="1")
    assert form.result() == "cake"


def test_a_value_that_became_invalid_is_stale_too(make: Any) -> None:
    form = make(Oven("cake"))
    form.result()
    form.set(minutes="many")
    with pytest.raises(StaleResult, match="Minutes"):
        form.result()


def test_cancel_ends_the_step_and_result_says_so(make: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    form = make(oven)
    form.start()
    form.cancel()
    with pytest.raises(Cancelled, match="Heating"):
        form.result()
    assert form.operation.status is RunStatus.CANCELLED


def test_interrupting_a_waiting_result_cancels_the_step(make: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    form = make(oven)
    threading.Timer(0.4, _thread.interrupt_main).start()
    with pytest.raises(Cancelled):
        form.result()
    assert form.operation.status is RunStatus.CANCELLED


def test_the_cell_run_again_attaches_to_the_running_step_with_its_values(make: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    first = make(oven)
    first.set(cake="cherry")
    first.start()
    again = make(oven)
    assert again.settings.cake == "cherry"
    assert again.operation is first.operation
    oven.gate.set()
    assert again.result() == "cake"
    assert len(oven.bakes) == 1


def test_the_cell_run_again_after_the_end_does_not_take_the_old_result_for_a_new_one(make: Any) -> None:
    oven = Oven("old bytes", "new bytes")
    assert make(oven).result() == "old bytes"
    assert make(oven).result() == "new bytes"


def test_two_forms_of_one_step_never_run_at_once(make: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    first, second = make(oven), make(oven)
    first.start()
    assert second.start() is first.operation
    oven.gate.set()
    assert second.result() == "cake"
    assert len(oven.bakes) == 1


def test_other_targets_run_beside_each_other(make: Any) -> None:
    oven = Oven("here", "there")
    oven.gate.clear()
    here, there = make(oven), make(oven, target="azure")
    assert here.start() is not there.start()
    oven.gate.set()
    assert {here.result(), there.result()} == {"here", "there"}


def test_blockers_keep_the_step_from_running_and_are_named(make: Any) -> None:
    oven = Oven("cake")
    form = make(oven, blockers=lambda settings: ["Buy plums first."] if settings.cake == "plum" else [])
    assert form.blockers() == ["Buy plums first."]
    with pytest.raises(InvalidSettings, match="Buy plums first"):
        form.result()
    form.set(cake="apple")
    assert form.blockers() == []
    assert form.result() == "cake"


def test_invalid_values_are_blockers_with_the_fields_title(make: Any) -> None:
    form = make(Oven("cake"), settings=BakeSettings)
    assert form.blockers() == ["Cake: A value is needed"]
    with pytest.raises(InvalidSettings, match="Cake: A value is needed"):
        form.result()


class CostlyOven(Oven):
    def __call__(self, settings: BakeSettings, *, progress: Progress, apply: bool = False) -> Any:
        if not apply:
            raise NotApplied("This costs 3 €.", next_step="press Apply", plan="plan: 3 €")
        return super().__call__(settings, progress=progress)


def test_a_step_that_costs_is_planned_and_not_run(make: Any) -> None:
    form = make(CostlyOven("cake"), costs=True)
    with pytest.raises(NotApplied) as caught:
        form.result()
    assert caught.value.__dict__["plan"] == "plan: 3 €"
    assert make(CostlyOven("cake"), costs=True, apply=True).result() == "cake"


def test_apply_appears_with_the_plan_and_is_disabled_when_a_value_changes(make: Any) -> None:
    form = make(CostlyOven("cake", "cake"), costs=True)
    view = form.view
    actions = view._run_view.actions
    assert view.apply_button not in actions.children
    view.run_button.click()
    form.operation.wait()
    assert view.apply_button in actions.children
    assert "plan: 3 €" in texts(view.widget)
    view._inputs["minutes"].widget.value = "9"
    assert view.apply_button.disabled
    view.run_button.click()
    form.operation.wait()
    assert not view.apply_button.disabled
    view.apply_button.click()
    assert form.result() == "cake"


def test_typing_shows_the_message_and_disables_run_until_it_is_right(make: Any) -> None:
    form = make(Oven("cake"))
    view = form.view
    minutes = view._inputs["minutes"]
    assert not view.run_button.disabled
    minutes.widget.value = "-3"
    assert view.run_button.disabled
    assert "wanted at least 0" in texts(minutes.row)
    assert "Before this can run" in texts(view.widget)
    minutes.widget.value = "3"
    assert not view.run_button.disabled
    assert "wanted" not in texts(view.widget)


def test_a_run_shows_phase_bar_log_and_result_and_swaps_the_buttons(make: Any) -> None:
    oven = Oven("a fine cake")
    oven.gate.clear()
    form = make(oven)
    view = form.view
    view.run_button.click()
    until(lambda: "Heating" in texts(view.widget))
    assert list(view._run_view.actions.children) == [view.cancel_button]
    oven.gate.set()
    form.operation.wait()
    shown = texts(view.widget)
    assert view.run_button in view._run_view.actions.children
    for part in ("a fine cake", "smells good", "Done after"):
        assert part in shown
    view._inputs["cake"].widget.value = "apple"
    assert "Changed since the run below: Cake" in texts(view.widget)


def test_cancel_button_cancels(make: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    form = make(oven)
    form.view.run_button.click()
    form.view.cancel_button.click()
    form.operation.wait()
    assert "Cancelled" in texts(form.view.widget)
    assert form.operation.status is RunStatus.CANCELLED


def test_results_errors_phases_and_values_are_escaped(make: Any) -> None:
    def hostile(settings: BakeSettings, *, progress: Progress) -> str:
        progress.phase(CANARY)
        progress.note(CANARY)
        if settings.minutes:
            raise ValueError(CANARY)
        return CANARY

    form = make(hostile, settings=BakeSettings(cake=CANARY), standing=lambda: CANARY)
    for minutes in (1, 0):
        form.set(minutes=minutes)
        form.view.run_button.click()
        form.operation.wait()
        pages = [child.value for child in _html_widgets(form.view.widget)]
        assert any("&lt;img" in page for page in pages)
        assert not [page for page in [*pages, form._repr_html_()] if "<img" in page]


def _html_widgets(widget: Any) -> Iterator[Any]:
    if type(widget).__name__ == "HTML":
        yield widget
    for child in getattr(widget, "children", ()):
        yield from _html_widgets(child)


def test_secrets_appear_nowhere(make: Any, in_lab: None) -> None:
    form = make(Oven("cake"), settings=BakeSettings(cake="c", token=SecretStr("hunter2")))
    states = [str(child.get_state()) for child in _all(form.view.widget)]
    assert not [text for text in [repr(form), form._repr_html_(), *states] if "hunter2" in text]
    assert "Token: set, not shown" in repr(form)


def _all(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _all(child)


def test_headless_a_form_is_text_and_builds_no_widget(make: Any) -> None:
    form = make(Oven("cake"))
    bundle = form._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "Cake: plum" in bundle["text/plain"]
    assert form._view is None


def test_in_a_frontend_a_form_is_a_widget_with_text_beside_it(make: Any, in_lab: None) -> None:
    bundle = make(Oven("cake"))._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/plain", "text/html"} <= set(bundle)


def test_without_a_kernel_nobody_sits_in_front() -> None:
    assert frontend.is_interactive() is False


@pytest.mark.parametrize(
    ("kernel", "interactive"),
    [(SimpleNamespace(_allow_stdin=True), True), (SimpleNamespace(_allow_stdin=False), False), (None, False)],
    ids=["lab", "papermill", "ipython"],
)
def test_who_takes_input_sits_in_front(
    monkeypatch: pytest.MonkeyPatch, kernel: Any, interactive: bool
) -> None:
    shell = SimpleNamespace(kernel=kernel)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert frontend.is_interactive() is interactive
