"""The forms that look after an app: they start from how it is, say what a press does, and keep no secret."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nbtoolkit.azure import clients as cloud
from nbtoolkit.widgets import LogView, ScaleForm, SecretForm, TeardownForm
from tests.azure_double import AzureDouble
from tests.support.azure_workspace import APP, AzurePlace
from tests.support.recording_progress import until

CANARY = "hf_canary-0123456789abcdef"


@pytest.fixture
def place(azure_double: AzureDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzurePlace]:
    monkeypatch.setattr(cloud, "POLL", 0.05)
    yield AzurePlace(azure_double, tmp_path / "project", most=3)
    for thread in threading.enumerate():  # what a view still asks has to be answered before the double ends
        if thread.name in ("nbtoolkit-standing", "nbtoolkit-log"):
            thread.join(10)


def test_limits_start_from_those_that_are_in_force(place: AzurePlace) -> None:
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


def test_limits_of_an_app_that_azure_does_not_know_are_the_defaults(place: AzurePlace) -> None:
    place.target.provisioned = replace(place.place, app="another")
    assert ScaleForm(place.target).settings.maximum == 1


def test_a_secret_that_was_typed_is_put_and_stays_in_no_widget(place: AzurePlace) -> None:
    form = SecretForm(place.target)
    box = form.view._inputs["value"].widget
    box.value = CANARY
    assert (box.value, box.placeholder) == ("", "set, not shown")
    form.view.run_button.click()
    assert "HF_TOKEN was added" in str(form.result())
    shown = [repr(form), form._repr_html_(), form.view._run_view._outcome.value, *form.operation.lines]  # type: ignore[union-attr]
    assert CANARY not in "\n".join(shown)
    assert place.target.app.secrets()["hf-token"] == CANARY


def test_a_teardown_says_on_its_button_whether_it_deletes(place: AzurePlace) -> None:
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
    until(lambda: "Not followed any more." in note.value)
