"""The forms for a running app: scale, secrets, teardown and log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nbtoolkit.widgets import LogView, ScaleForm, SecretForm, TeardownForm
from tests.azure_double import AzureDouble
from tests.support.azure_project import APP, AzureProject
from tests.support.wait import wait_until

CANARY = "hf_canary-0123456789abcdef"


@pytest.fixture
def project(azure: AzureDouble, tmp_path: Path) -> AzureProject:
    return AzureProject(azure, tmp_path / "project", max_replicas=3)


def test_the_scale_form_starts_with_the_limits_of_the_app(project: AzureProject) -> None:
    form = ScaleForm(project.target)
    assert (form.settings.minimum, form.settings.maximum, form.settings.running) == (0, 3, True)
    form.set(minimum=4)
    assert form.blockers() == ["minimum 4 is above maximum 3"]
    form.set(minimum=0, maximum=2)
    assert form.view.run_button.description == "Set limits"
    form.view.run_button.click()
    assert "from 0 to 2" in str(form.result())
    project.target.stop()
    assert not ScaleForm(project.target).settings.running


def test_the_scale_form_of_an_unknown_app_starts_with_the_defaults(project: AzureProject) -> None:
    project.target.provisioned = replace(project.names, app="another")
    assert ScaleForm(project.target).settings.maximum == 1


def test_a_typed_secret_is_stored_and_in_no_widget(project: AzureProject) -> None:
    form = SecretForm(project.target)
    box = form.view._inputs["value"].widget
    box.value = CANARY
    assert (box.value, box.placeholder) == ("", "set, not shown")
    form.view.run_button.click()
    assert "HF_TOKEN was added" in str(form.result())
    shown = [repr(form), form._repr_html_(), form.view._run_view._outcome.value, *form.current_run.lines]  # type: ignore[union-attr]
    assert CANARY not in "\n".join(shown)
    assert project.target.app.secrets()["hf-token"] == CANARY


def test_the_teardown_button_shows_whether_it_deletes(project: AzureProject) -> None:
    form = TeardownForm(project.target)
    button = form.view.run_button
    assert (button.description, button.button_style) == ("Show plan", "primary")
    button.click()
    assert not form.result().done
    wait_until(lambda: "Nothing was deleted; this is the plan" in form.view._run_view._outcome.value)
    form.view._inputs["confirm_name"].widget.value = APP
    assert (button.description, button.button_style) == ("Delete", "danger")
    button.click()
    assert form.result().done
    wait_until(lambda: "Tear down finished" in form.view._run_view._outcome.value)


def test_a_log_is_read_and_followed_until_it_is_stopped(project: AzureProject) -> None:
    log = LogView(project.target, tail=50)
    assert "ContainerStarted" in repr(log)
    widgets = log.view
    wait_until(lambda: "ContainerStarted" in widgets._text.value)
    _, buttons, note, _ = widgets.widget.children
    follow, stop = buttons.children
    follow.click()
    wait_until(lambda: "Following; new lines appear below." in note.value)
    newer = project.target.app.new_revision("newer")
    wait_until(lambda: newer in widgets._text.value)
    stop.click()
    wait_until(lambda: "Stopped following." in note.value)
