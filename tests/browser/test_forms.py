"""The forms in JupyterLab in a browser: validation, run, cancel, attach, reopen, deploy and chat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.jupyter_browser import (
    Lab,
    NotebookPage,
    browser_page,
    needs_browser,
    running_lab,
    screenshot,
)
from tests.support.tiny_models import tiny_adapter, tiny_base

pytestmark = [pytest.mark.browser, needs_browser]

REPO = Path(__file__).parents[2]
CANARY = "<img src=x onerror=document.title='canary'>"

BAKE = f"""
import sys; sys.path.insert(0, {str(REPO)!r})
from pathlib import Path
from pydantic import Field, SecretStr
from nbtoolkit.settings import Settings
from nbtoolkit.widgets import Form
from nbtoolkit.workspace import Workspace

class BakeSettings(Settings):
    cake: str = Field(description="what to bake")
    minutes: int = Field(default=1, ge=0, description="how long")
    token: SecretStr | None = Field(default=None, description="of the bakery")

def bake(settings, *, progress):
    progress.phase("Heating the oven")
    for done in range(settings.minutes * 10):
        progress.advance(done, settings.minutes * 10, "seconds")
        progress.sleep(0.1)
    return f"a {{settings.cake}} cake"
"""
BAKE_FORM = """
form = Form(BakeSettings, bake, step="Bake", workspace=Workspace(Path.cwd()))
form
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("lab")
    (root / "infra").mkdir()
    with running_lab(root, tmp_path_factory.mktemp("jupyter")) as lab:
        yield lab


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser_page() as page:
        yield page


def test_validate_run_cancel_and_result(lab: Lab, page: Any) -> None:
    cells = [BAKE, BAKE_FORM, "print(form.result())", "print(form.settings.token.get_secret_value())"]
    notebook = NotebookPage(page, lab, lab.write("bake.ipynb", cells))
    notebook.run(0)
    notebook.run(1)
    form = notebook.form(1)
    run = form.get_by_role("button", name="Run")
    form.get_by_text("Cake: A value is needed").wait_for()
    assert run.is_disabled()

    form.get_by_label("Minutes").fill("soon")
    form.get_by_text("'soon': wanted a whole number", exact=True).wait_for()
    form.get_by_label("Cake").fill("plum")
    form.get_by_label("Minutes").fill("60")
    form.get_by_label("Token").fill("hunter2")
    form.get_by_label("Minutes").click()
    form.get_by_text("Before this can run").wait_for(state="hidden")
    expect(form.get_by_label("Token")).to_have_value("")

    run.click()
    form.get_by_text(re.compile(r"Heating the oven · \d+ of 600 seconds")).wait_for()
    form.get_by_role("button", name="Cancel").click()
    form.get_by_text(re.compile("Cancelled after")).wait_for()
    notebook.run(2)
    assert "Cancelled while: Heating the oven" in notebook.output(2).inner_text()

    form.get_by_label("Minutes").fill("0")
    notebook.run(2)
    assert "StaleResult" in notebook.output(2).inner_text()
    run.click()
    form.get_by_text("a plum cake").wait_for()
    notebook.run(2)
    assert notebook.output(2).inner_text().strip() == "a plum cake"
    notebook.run(3)
    assert notebook.output(3).inner_text().strip() == "hunter2"
    screenshot(page, "bake")
    notebook.save()
    assert "hunter2" not in (lab.root / "bake.ipynb").read_text().replace("hunter2\\n", "", 1)


def test_a_cell_run_again_attaches_and_interrupt_cancels(lab: Lab, page: Any) -> None:
    form_cell = BAKE_FORM.replace("(BakeSettings,", "(BakeSettings(cake='slow', minutes=60),")
    notebook = NotebookPage(page, lab, lab.write("again.ipynb", [BAKE, form_cell, "form.result()"]))
    notebook.run(0)
    notebook.run(1)
    form = notebook.form(1)
    form.get_by_label("Minutes").fill("50")
    form.get_by_role("button", name="Run").click()
    form.get_by_text(re.compile("Heating the oven ·")).wait_for()
    notebook.run(1)
    form.get_by_text(re.compile(r"of 500 seconds")).wait_for()
    assert form.get_by_label("Minutes").input_value() == "50"
    notebook.run(2, wait=False)
    notebook.output(2).get_by_text("Bake is running; ■ cancels it.").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("i")
    page.keyboard.press("i")  # ■
    notebook.output(2).get_by_text("Cancelled while: Heating the oven").wait_for()


def test_a_reopened_notebook_shows_the_values_of_the_form(lab: Lab, page: Any) -> None:
    notebook = NotebookPage(page, lab, lab.write("later.ipynb", [BAKE, BAKE_FORM]))
    notebook.run(0)
    notebook.run(1)
    closed = notebook.output(1).get_by_text("run this cell again to open the form")
    notebook.form(1).get_by_label("Cake").wait_for()
    assert not closed.is_visible()
    notebook.save()
    notebook.shut_down()
    again = NotebookPage(page, lab, "later.ipynb")
    again.output(1).get_by_text("run this cell again to open the form").wait_for()
    screenshot(page, "reopened")


def test_deploy_form_and_chat_form(lab: Lab, page: Any) -> None:
    base = tiny_base(lab.root / "model-cache" / "tiny")
    tiny_adapter(lab.root / "adapters" / "tone", base)
    cells = [
        "from nbtoolkit import LocalTarget\nfrom nbtoolkit.widgets import ChatForm, DeployForm",
        "form = DeployForm(target=LocalTarget(keep=False))\nform",
        "deployment = form.result()\nchat = ChatForm(deployment.endpoint)\nchat",
        "deployment.target.stop()",
    ]
    notebook = NotebookPage(page, lab, lab.write("deploy.ipynb", cells))
    notebook.run(0)
    notebook.run(1)
    form = notebook.form(1)
    form.get_by_text("adapters is empty").wait_for()
    form.get_by_text("stopped").first.wait_for()
    screenshot(page, "deploy-open")
    form.locator(".nbtoolkit-picker select").select_option("tone = adapters/tone")
    form.get_by_label("Base").fill("model-cache/tin")
    form.get_by_text("The base model 'model-cache/tin' was not found").wait_for()
    form.get_by_label("Base").fill("model-cache/tiny")
    form.get_by_text("No green smoke report for these bytes: run the smoke test").wait_for()
    assert form.get_by_role("button", name="Run").is_disabled()
    form.get_by_role("button", name="Smoke test, then deploy").wait_for()
    screenshot(page, "deploy-blocked")

    form.get_by_text("Advanced").click()
    form.get_by_label("Reason to override").fill("a browser test of random weights")
    form.get_by_text("Before this can run").wait_for(state="hidden")
    form.get_by_role("button", name="Run").click()
    form.get_by_role("button", name="Cancel").wait_for()
    form.get_by_text(re.compile("Waiting until the server serves")).first.wait_for()
    screenshot(page, "deploy-running")
    form.get_by_text("Deploy finished").wait_for(timeout=120_000)
    form.get_by_text("tone: not proven").wait_for()
    screenshot(page, "deploy-done")

    notebook.run(2)
    chat = notebook.form(2)
    chat.get_by_placeholder("Write to the model…").fill("hello")
    chat.get_by_label("Compare with the base").check()
    chat.get_by_role("button", name="Send").click()
    chat.get_by_text(re.compile(r"tiny · \d+\.\d s")).wait_for(timeout=60_000)
    chat.get_by_text(re.compile(r"tone · \d+\.\d s")).wait_for(timeout=60_000)
    notebook.run(3)


def test_the_chat_form_streams_stops_and_escapes(lab: Lab, page: Any) -> None:
    cells = [
        f"""
import sys; sys.path.insert(0, {str(REPO)!r})
from tests.support.fake_endpoint import BASE, FakeEndpoint
from nbtoolkit.widgets import ChatForm
words = ("I am so glad to hear that you won the first prize! " * 3).split()
endpoint = FakeEndpoint({{
    "tone-emotion": ["joy ", {CANARY!r}],
    BASE: [f"{{word}} " for word in words * 10],
}}, pause=0.1)""",
        "chat = ChatForm(endpoint)\nchat",
    ]
    notebook = NotebookPage(page, lab, lab.write("chat.ipynb", cells))
    notebook.run(0)
    notebook.run(1)
    chat = notebook.form(1)
    prompt = chat.get_by_placeholder("Write to the model…")
    assert chat.get_by_role("button", name="Send").is_disabled()
    prompt.fill("I won the first prize!")
    chat.get_by_role("button", name="Send").click()
    chat.get_by_text(CANARY).wait_for()
    assert page.title() != "canary"
    chat.get_by_label("Compare with the base").check()
    prompt.fill("And my dog is back.")
    chat.get_by_role("button", name="Send").click()
    chat.get_by_text(re.compile("I am so glad")).wait_for()
    screenshot(page, "chat")
    chat.get_by_role("button", name="Stop").click()
    chat.get_by_text("tiny-base · stopped").wait_for()
    chat.get_by_role("button", name="Send").wait_for()
    chat.get_by_text("Sampling").click()
    chat.get_by_label("Temperature").fill("9")
    chat.get_by_text("'9': wanted at most 2").wait_for()
    screenshot(page, "chat-sampling")
