"""Notebooks 02, 03 and 05 in a browser, against the Azure double.

The kernels find the double through environment variables, the stub engine through an IPython startup file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from nbtoolkit import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support.jupyter_browser import (
    Lab,
    NotebookPage,
    browser_page,
    needs_browser,
    running_lab,
    screenshot,
)
from tests.support.stub_deploy import adapter, base, report, use_stub_in_kernels

pytestmark = [pytest.mark.browser, needs_browser, pytest.mark.timeout(400)]
CANARY = "hf_canary-0123456789abcdef"


@pytest.fixture
def lab(repo: Path, stub_code: Path, tmp_path: Path, azure_double: AzureDouble) -> Iterator[Lab]:
    """JupyterLab in a new workspace: one smoke-tested adapter, nothing on Azure."""
    azure_double.clock.scale = 0.02
    root = tmp_path / "project"
    (root / "infra").mkdir(parents=True)
    shutil.copytree(repo / "notebooks", root / "notebooks")
    base(root / "tiny")
    tone = adapter(root / "adapters" / "tone", "brave")
    report(Workspace(root), tone, root / "tiny", "brave")
    state = tmp_path / "jupyter"
    use_stub_in_kernels(state / "ipython", stub_code)
    theme = os.environ.get("NBTOOLKIT_THEME", "JupyterLab Light")
    with running_lab(root, state, theme=theme) as lab:
        yield lab


def edit(notebook: NotebookPage, index: int, source: str) -> None:
    """Replace the source of a cell."""
    notebook.cell(index).locator(".cm-content").click()
    notebook.page.keyboard.press("Control+a")
    notebook.page.keyboard.insert_text(source)


def test_provision_deploy_operate_and_teardown_in_the_browser(lab: Lab, azure_double: AzureDouble) -> None:
    with browser_page(width=1200, height=1500) as page:
        page.set_default_timeout(60_000)
        provision(NotebookPage(page, lab, "notebooks/02_provision.ipynb"), page, azure_double)
        deploy(NotebookPage(page, lab, "notebooks/03_deploy.ipynb"), page)
        operate(NotebookPage(page, lab, "notebooks/05_operate.ipynb"), page, lab)
    assert CANARY not in repr(azure_double.requests)


def provision(notebook: NotebookPage, page: Any, double: AzureDouble) -> None:
    """Fill in, plan and apply; restart the kernel during the deployment and resume it."""
    for index in range(3):
        notebook.run(index)
    form = notebook.form(2)
    subscription = form.get_by_label("Subscription")
    form.get_by_text("No subscription is chosen").wait_for()
    page.wait_for_function("() => document.querySelectorAll('datalist option').length > 0")
    screenshot(page, "02-opened")
    subscription.fill(SUBSCRIPTION)
    form.get_by_label("Resource group", exact=True).fill("rg-browser")
    form.get_by_label("Region").fill("westus3")
    form.get_by_label("Create resource group").check()
    form.get_by_label("GPU").select_option("none")
    form.get_by_role("button", name="Plan").click()
    form.get_by_text("Would provision").wait_for()
    expect(form.get_by_text("aiacaapp").first).to_be_visible()
    screenshot(page, "02-planned")
    double.clock.scale = 0.5
    form.get_by_role("button", name="Apply").click()
    form.get_by_text(re.compile(r"Deploying to rg-browser ·")).wait_for()
    form.get_by_text(re.compile("being created")).first.wait_for(state="attached")
    screenshot(page, "02-applying")
    notebook.shut_down()
    page.reload()
    again = NotebookPage(page, notebook._lab, notebook._name)
    edit(again, 0, f'subscription = "{SUBSCRIPTION}"\nresource_group = "rg-browser"\ngpu = "none"')
    for index in range(3):
        again.run(index)
    form = again.form(2)
    form.get_by_text(re.compile("Waiting for the running deployment|Deploying to")).first.wait_for()
    screenshot(page, "02-again")
    double.clock.scale = 0.02
    form.get_by_text("Provision finished").wait_for(timeout=60_000)
    expect(form.get_by_role("link", name=re.compile("portal.azure.com")).first).to_be_visible()
    screenshot(page, "02-done")
    puts = [made for made in double.requests if made.method == "PUT" and "/deployments/" in made.path]
    assert len(puts) == 1
    again.shut_down()


def deploy(notebook: NotebookPage, page: Any) -> None:
    """Deploy with the form."""
    edit(notebook, 0, 'adapters = "adapters/tone"\nbase = "tiny"\ntarget = "azure"\nwheels_lock = "none"')
    for index in range(3):
        notebook.run(index)
    form = notebook.form(2)
    form.get_by_text("Azure, app aiacaapp").wait_for()
    screenshot(page, "03-opened")
    form.get_by_role("button", name="Run").click()
    form.get_by_text("Deploy finished").wait_for(timeout=60_000)
    form.get_by_text(re.compile("tone: proven")).wait_for()
    screenshot(page, "03-done")
    notebook.shut_down()


def operate(notebook: NotebookPage, page: Any, lab: Lab) -> None:
    """Status, log, limits, secret and teardown."""
    cells = page.locator(".jp-Notebook .jp-CodeCell").count()
    for index in range(cells - 1):
        notebook.run(index)
    notebook.output(1).get_by_text("ready: it answers").wait_for()
    log = notebook.form(3)
    log.get_by_text("the chat UI is ready").first.wait_for()
    log.get_by_role("button", name="Follow", exact=True).click()
    log.get_by_text("Following; new lines appear below.").wait_for()
    screenshot(page, "05-top")
    log.get_by_role("button", name="Stop following").click()
    log.get_by_text("Stopped following.").wait_for()

    proof = notebook.form(4)
    proof.scroll_into_view_if_needed()
    proof.get_by_role("button", name="Prove", exact=True).click()
    proof.get_by_text(": proven").first.wait_for()
    screenshot(page, "05-proof")

    limits = notebook.form(5)
    limits.scroll_into_view_if_needed()
    limits.get_by_label("Maximum").fill("2")
    limits.get_by_role("button", name="Set limits").click()
    limits.get_by_text("Scale finished").wait_for()
    limits.get_by_text("from 0 to 2").first.wait_for()
    screenshot(page, "05-limits")

    secret = notebook.form(6)
    secret.scroll_into_view_if_needed()
    secret.get_by_label("Value").fill(CANARY)
    secret.get_by_label("Name").click()
    expect(secret.get_by_label("Value")).to_have_value("")
    secret.get_by_role("button", name="Put secret").click()
    secret.get_by_text("HF_TOKEN was added").wait_for(timeout=60_000)
    screenshot(page, "05-secret")

    end = notebook.form(7)
    end.scroll_into_view_if_needed()
    end.get_by_role("button", name="Show plan").click()
    end.get_by_text("would delete").first.wait_for()
    screenshot(page, "05-plan")
    name = re.search(r"aiacaapp\w+", end.inner_text())
    assert name
    end.get_by_label("Name of the app").fill(name.group())
    end.get_by_role("button", name="Delete").click()
    end.get_by_text("deleted", exact=True).first.wait_for()
    screenshot(page, "05-deleted")
    notebook.save()
    assert CANARY not in (lab.root / "notebooks/05_operate.ipynb").read_text()
