"""Form: run, result, cancel, attach, blockers, apply, display and secrets."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field, SecretStr

from nbtoolkit.errors import Cancelled, InvalidSettings, NotApplied, StaleResult
from nbtoolkit.progress import Progress
from nbtoolkit.settings import Settings
from nbtoolkit.widgets import Form, notebook_display
from nbtoolkit.widgets.forms.background_run import RunStatus
from nbtoolkit.workspace import Workspace
from tests.support.wait import wait_until
from tests.support.widget_tree import visible_text, widgets

CANARY = "<img src=x onerror=alert(1)>"


class BakeSettings(Settings):
    cake: str = Field(description="what to bake")
    minutes: int = Field(default=1, ge=0)
    token: SecretStr | None = None


class Oven:
    """Returns or raises the next outcome of each bake, once the gate is open."""

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
    for module in ("forms", "notebook_display"):
        monkeypatch.setattr(f"nbtoolkit.widgets.{module}.is_interactive", lambda: True)


@pytest.fixture
def make_form(workspace: Workspace) -> Iterator[Callable[..., Form[BakeSettings, Any]]]:
    forms: list[Form[BakeSettings, Any]] = []

    def make(run: Callable[..., Any], **options: Any) -> Form[BakeSettings, Any]:
        initial = options.pop("settings", BakeSettings(cake="plum"))
        forms.append(Form(initial, run, step="Bake", workspace=workspace, **options))
        return forms[-1]

    yield make
    for form in forms:
        form.cancel()


def test_result_runs_a_step_that_never_ran_and_prints_each_line_once(make_form: Any, capsys: Any) -> None:
    oven = Oven("cake")
    assert make_form(oven).result() == "cake"
    printed = capsys.readouterr().out
    assert printed.count("Heating") == 1
    assert printed.count("smells good") == 1


def test_result_of_a_finished_run_is_returned_without_a_second_run(make_form: Any) -> None:
    oven = Oven("first", "second")
    form = make_form(oven)
    assert [form.result(), form.result()] == ["first", "first"]
    assert len(oven.bakes) == 1


def test_result_raises_the_error_of_the_run_every_time(make_form: Any) -> None:
    form = make_form(Oven(ValueError("burnt")))
    for _ in range(2):
        with pytest.raises(ValueError, match="burnt"):
            form.result()


def test_result_waits_for_a_running_step(make_form: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    form = make_form(oven)
    form.start()
    threading.Timer(0.3, oven.gate.set).start()
    assert form.result() == "cake"
    assert len(oven.bakes) == 1


def test_the_result_is_stale_until_changed_values_are_set_back(make_form: Any) -> None:
    form = make_form(Oven("cake"))
    form.result()
    form.set(cake="apple", minutes=5)
    with pytest.raises(StaleResult, match="Cake, Minutes") as caught:
        form.result()
    assert caught.value.fields == ["cake", "minutes"]
    form.set(cake="plum", minutes="1")
    assert form.result() == "cake"


def test_the_result_is_stale_if_a_value_became_invalid(make_form: Any) -> None:
    form = make_form(Oven("cake"))
    form.result()
    form.set(minutes="many")
    with pytest.raises(StaleResult, match="Minutes"):
        form.result()


def test_result_of_a_cancelled_step_raises_cancelled(make_form: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    form = make_form(oven)
    form.start()
    form.cancel()
    with pytest.raises(Cancelled, match="Heating"):
        form.result()
    assert form.current_run.status is RunStatus.CANCELLED


def test_interrupting_result_cancels_the_step(make_form: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    form = make_form(oven)
    threading.Timer(0.4, _thread.interrupt_main).start()
    with pytest.raises(Cancelled):
        form.result()
    assert form.current_run.status is RunStatus.CANCELLED


def test_a_second_form_attaches_to_the_running_step_with_its_values(make_form: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    first = make_form(oven)
    first.set(cake="cherry")
    first.start()
    again = make_form(oven)
    assert again.settings.cake == "cherry"
    assert again.current_run is first.current_run
    oven.gate.set()
    assert again.result() == "cake"
    assert len(oven.bakes) == 1


def test_a_form_created_after_the_end_runs_again(make_form: Any) -> None:
    oven = Oven("old bytes", "new bytes")
    assert make_form(oven).result() == "old bytes"
    assert make_form(oven).result() == "new bytes"


def test_two_forms_of_one_step_share_one_run(make_form: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    first, second = make_form(oven), make_form(oven)
    first.start()
    assert second.start() is first.current_run
    oven.gate.set()
    assert second.result() == "cake"
    assert len(oven.bakes) == 1


def test_runs_on_different_targets_are_concurrent(make_form: Any) -> None:
    oven = Oven("local", "remote")
    oven.gate.clear()
    local, remote = make_form(oven), make_form(oven, target="azure")
    assert local.start() is not remote.start()
    oven.gate.set()
    assert {local.result(), remote.result()} == {"local", "remote"}


def test_blockers_prevent_a_run_and_are_in_the_error(make_form: Any) -> None:
    oven = Oven("cake")
    form = make_form(oven, blockers=lambda settings: ["Buy plums first."] if settings.cake == "plum" else [])
    assert form.blockers() == ["Buy plums first."]
    with pytest.raises(InvalidSettings, match="Buy plums first"):
        form.result()
    form.set(cake="apple")
    assert form.blockers() == []
    assert form.result() == "cake"


def test_invalid_values_are_blockers_with_the_field_title(make_form: Any) -> None:
    form = make_form(Oven("cake"), settings=BakeSettings)
    assert form.blockers() == ["Cake: A value is needed"]
    with pytest.raises(InvalidSettings, match="Cake: A value is needed"):
        form.result()


class CostlyOven(Oven):
    def __call__(self, settings: BakeSettings, *, progress: Progress, apply: bool = False) -> Any:
        if not apply:
            raise NotApplied("This costs 3 €.", next_step="press Apply", plan="plan: 3 €")
        return super().__call__(settings, progress=progress)


def test_a_step_that_needs_apply_is_only_planned(make_form: Any) -> None:
    form = make_form(CostlyOven("cake"), needs_apply=True)
    with pytest.raises(NotApplied) as caught:
        form.result()
    assert caught.value.plan == "plan: 3 €"
    assert make_form(CostlyOven("cake"), needs_apply=True, apply=True).result() == "cake"


def test_the_apply_button_is_displayed_with_a_plan_and_disabled_after_a_change(make_form: Any) -> None:
    form = make_form(CostlyOven("cake", "cake"), needs_apply=True)
    view = form.view
    actions = view._run_view.actions
    assert view.apply_button not in actions.children
    view.run_button.click()
    form.current_run.wait()
    assert view.apply_button in actions.children
    assert "plan: 3 €" in visible_text(view.widget)
    view._inputs["minutes"].widget.value = "9"
    assert view.apply_button.disabled
    view.run_button.click()
    form.current_run.wait()
    assert not view.apply_button.disabled
    view.apply_button.click()
    assert form.result() == "cake"


def test_an_invalid_input_shows_its_error_and_disables_run(make_form: Any) -> None:
    form = make_form(Oven("cake"))
    view = form.view
    minutes = view._inputs["minutes"]
    assert not view.run_button.disabled
    minutes.widget.value = "-3"
    assert view.run_button.disabled
    assert "wanted at least 0" in visible_text(minutes.row)
    assert "Before this can run" in visible_text(view.widget)
    minutes.widget.value = "3"
    assert not view.run_button.disabled
    assert "wanted" not in visible_text(view.widget)


def test_a_run_displays_phase_log_result_and_buttons(make_form: Any) -> None:
    oven = Oven("a fine cake")
    oven.gate.clear()
    form = make_form(oven)
    view = form.view
    view.run_button.click()
    wait_until(lambda: "Heating" in visible_text(view.widget))
    assert list(view._run_view.actions.children) == [view.cancel_button]
    oven.gate.set()
    form.current_run.wait()
    shown = visible_text(view.widget)
    assert view.run_button in view._run_view.actions.children
    for part in ("a fine cake", "smells good", "Done after"):
        assert part in shown
    view._inputs["cake"].widget.value = "apple"
    assert "Changed since the run below: Cake" in visible_text(view.widget)


def test_the_cancel_button_cancels_the_run(make_form: Any) -> None:
    oven = Oven("cake")
    oven.gate.clear()
    form = make_form(oven)
    form.view.run_button.click()
    form.view.cancel_button.click()
    form.current_run.wait()
    assert "Cancelled" in visible_text(form.view.widget)
    assert form.current_run.status is RunStatus.CANCELLED


def test_results_errors_phases_and_values_are_escaped(make_form: Any) -> None:
    def hostile(settings: BakeSettings, *, progress: Progress) -> str:
        progress.phase(CANARY)
        progress.note(CANARY)
        if settings.minutes:
            raise ValueError(CANARY)
        return CANARY

    form = make_form(hostile, settings=BakeSettings(cake=CANARY), status=lambda: CANARY)
    for minutes in (1, 0):
        form.set(minutes=minutes)
        form.view.run_button.click()
        form.current_run.wait()
        pages = [child.value for child in widgets(form.view.widget) if type(child).__name__ == "HTML"]
        assert any("&lt;img" in page for page in pages)
        assert not [page for page in [*pages, form._repr_html_()] if "<img" in page]


def test_secrets_are_not_displayed(make_form: Any, in_lab: None) -> None:
    form = make_form(Oven("cake"), settings=BakeSettings(cake="c", token=SecretStr("hunter2")))
    states = [str(child.get_state()) for child in widgets(form.view.widget)]
    assert not [text for text in [repr(form), form._repr_html_(), *states] if "hunter2" in text]
    assert "Token: set, not shown" in repr(form)


def test_a_headless_form_is_text_without_widgets(make_form: Any) -> None:
    form = make_form(Oven("cake"))
    bundle = form._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "Cake: plum" in bundle["text/plain"]
    assert form._view is None


def test_an_interactive_form_is_a_widget_and_text(make_form: Any, in_lab: None) -> None:
    bundle = make_form(Oven("cake"))._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/plain", "text/html"} <= set(bundle)


def test_without_a_kernel_it_is_not_interactive() -> None:
    assert notebook_display.is_interactive() is False


@pytest.mark.parametrize(
    ("kernel", "interactive"),
    [(SimpleNamespace(_allow_stdin=True), True), (SimpleNamespace(_allow_stdin=False), False), (None, False)],
    ids=["lab", "papermill", "ipython"],
)
def test_a_kernel_that_allows_stdin_is_interactive(
    monkeypatch: pytest.MonkeyPatch, kernel: Any, interactive: bool
) -> None:
    shell = SimpleNamespace(kernel=kernel)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert notebook_display.is_interactive() is interactive


def test_button_takes_over_what_a_run_recommends(make_form: Callable[..., Any]) -> None:
    oven = Oven("burnt")
    form = make_form(oven, recommend=lambda run: {"minutes": 7, "oven": "gas"} if run.result else {})
    view = form.view
    offered = "Use the recommended settings"
    assert form.recommended() == {}
    form.start().wait()
    assert form.recommended() == {"minutes": 7}  # the form has no field for the other
    wait_until(lambda: offered in [button.description for button in buttons_of(view)])
    view.recommended_button.click()
    assert (form.settings.minutes, form.recommended()) == (7, {})


def buttons_of(view: Any) -> list[Any]:
    return [one for one in widgets(view.widget) if hasattr(one, "description") and hasattr(one, "click")]
