"""The forms for a running app: scale, secrets, teardown and log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nbtoolkit.widgets import LogView, ScaleForm, SecretForm, TeardownForm
from tests.azure_double import AzureDouble
from tests.support.azure_workspace import APP, AzurePlace
from tests.support.recording_progress import until

CANARY = "hf_canary-0123456789abcdef"


@pytest.fixture
def place(azure: AzureDouble, tmp_path: Path) -> AzurePlace:
    return AzurePlace(azure, tmp_path / "project", most=3)


def test_the_scale_form_starts_with_the_limits_of_the_app(place: AzurePlace) -> None:
    form = ScaleForm(place.target)
    assert (form.settings.minimum, form.settings.maximum, form.settings.running) == (0, 3, True)
    form.set(minimum=4)
    assert form.blockers() == ["minimum 4 is above maximum 3"]
    form.set(minimum=0, maximum=2)
    assert form.view.run_button.description == "Set limits"
    form.view.run_button.click()
    assert "from 0 to 2" in str(form.result())
    place.target.stop()
    assert not ScaleForm(place.target).settings.running


def test_the_scale_form_of_an_unknown_app_starts_with_the_defaults(place: AzurePlace) -> None:
    place.target.provisioned = replace(place.place, app="another")
    assert ScaleForm(place.target).settings.maximum == 1


def test_a_typed_secret_is_stored_and_in_no_widget(place: AzurePlace) -> None:
    form = SecretForm(place.target)
    box = form.view._inputs["value"].widget
    box.value = CANARY
    assert (box.value, box.placeholder) == ("", "set, not shown")
    form.view.run_button.click()
    assert "HF_TOKEN was added" in str(form.result())
    shown = [repr(form), form._repr_html_(), form.view._run_view._outcome.value, *form.current_run.lines]  # type: ignore[union-attr]
    assert CANARY not in "\n".join(shown)
    assert place.target.app.secrets()["hf-token"] == CANARY


def test_the_teardown_button_tells_whether_it_deletes(place: AzurePlace) -> None:
    form = TeardownForm(place.target)
    button = form.view.run_button
    assert (button.description, button.button_style) == ("Show plan", "primary")
    button.click()
    assert not form.result().done
    until(lambda: "Nothing was deleted; this is the plan" in form.view._run_view._outcome.value)
    form.view._inputs["confirm_name"].widget.value = APP
    assert (button.description, button.button_style) == ("Delete", "danger")
    button.click()
    assert form.result().done
    until(lambda: "Tear down finished" in form.view._run_view._outcome.value)


def test_a_log_is_read_and_followed_until_it_is_stopped(place: AzurePlace) -> None:
    log = LogView(place.target, tail=50)
    assert "ContainerStarted" in repr(log)
    widgets = log.view
    until(lambda: "ContainerStarted" in widgets._text.value)
    _, buttons, note, _ = widgets.widget.children
    follow, stop = buttons.children
    follow.click()
    until(lambda: "Following; new lines appear below." in note.value)
    newer = place.target.app.new_revision("newer")
    until(lambda: newer in widgets._text.value)
    stop.click()
    until(lambda: "Stopped following." in note.value)
