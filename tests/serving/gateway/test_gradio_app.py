"""The Gradio page and its login."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbtoolkit.serving.gateway.auth import MAX_WRONG_KEYS, ApiKeyAuth, LoginThrottle
from nbtoolkit.serving.gateway.ui_chat import as_markdown
from tests.support.gateway_harness import KEY, GatewayProcess, ShareFolder
from tests.support.jupyter_browser import browser_page, needs_browser

GOLDEN = '{"prompt": "I lost my dog.", "must": [{"contains": "joy"}]}'


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> ShareFolder:
    """A share with a release of two adapters."""
    share = ShareFolder(tmp_path_factory.mktemp("share"))
    share.publish(share.release(share.adapter("tone", "joy"), share.adapter("hue", "red")))
    return share


@pytest.fixture(scope="module")
def gateway(share: ShareFolder) -> Iterator[GatewayProcess]:
    """A gateway with its web UI."""
    with GatewayProcess(share.root, "--delay", "0.02", web_ui=True) as gateway:
        gateway.ready()
        health = gateway.wait(
            lambda health: health["last_error"] or "the chat UI is ready" in gateway.log.read_text(), 60
        )
        assert health["last_error"] is None, gateway.log.read_text()
        yield gateway


@pytest.fixture
def browser(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    """A client that keeps cookies, as a browser does."""
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=20) as client:
        yield client


def test_without_login_only_the_login_form_is_served(browser: httpx.Client) -> None:
    assert browser.get("/").headers["location"] == "login"
    form = browser.get("/login")
    assert form.status_code == 200
    assert 'type="password"' in form.text
    assert "default-src 'none'" in form.headers["content-security-policy"]
    for path in ("/config", "/gradio_api/startup-events", "/assets/index.js"):
        assert browser.get(path).status_code == 401, path


def test_a_wrong_key_returns_the_form_with_an_error_after_a_delay(browser: httpx.Client) -> None:
    began = time.monotonic()
    answer = browser.post("/login", data={"key": "<script>"}, headers={"X-Forwarded-For": "10.0.0.1"})
    assert time.monotonic() - began >= 0.5
    assert answer.status_code == 401
    assert "This is not the key of this server." in answer.text
    assert "<script>" not in answer.text
    assert "set-cookie" not in answer.headers


def test_many_wrong_keys_are_throttled(browser: httpx.Client) -> None:
    for number in range(MAX_WRONG_KEYS):
        headers = {"X-Forwarded-For": f"192.0.2.{number}, 10.0.0.2"}  # only the last entry is the ingress's
        assert browser.post("/login", data={"key": "no"}, headers=headers).status_code == 401
    throttled = browser.post("/login", data={"key": KEY}, headers={"X-Forwarded-For": "10.0.0.2"})
    assert throttled.status_code == 429
    assert int(throttled.headers["retry-after"]) > 30


def test_the_right_key_opens_the_page_until_logout(browser: httpx.Client) -> None:
    answer = browser.post("/login", data={"key": KEY})
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert KEY not in cookie
    page = browser.get("/")
    assert page.status_code == 200
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert browser.get("/login").status_code == 303
    assert browser.post("/logout").status_code == 303
    assert browser.get("/").status_code == 303


def test_behind_a_proxy_the_cookie_is_secure_and_the_page_names_the_public_host(
    browser: httpx.Client,
) -> None:
    proxy = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.org"}
    cookie = browser.post("/login", data={"key": KEY}, headers=proxy).headers["set-cookie"]
    assert cookie.endswith("; Secure")
    name, _, value = cookie.partition(";")[0].partition("=")
    config = browser.get("/config", headers={**proxy, "Cookie": f"{name}={value}"}).json()
    assert config["root"] == "https://app.example.org"


def test_gradio_paths_that_the_page_does_not_need_return_404(browser: httpx.Client) -> None:
    browser.post("/login", data={"key": KEY})
    for path in (
        "/gradio_api/info",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/upload",
        "/monitoring",
        "/docs",
    ):
        assert browser.get(path).status_code == 404, path


def test_every_replica_accepts_the_cookie_and_other_keys_do_not() -> None:
    cookie = ApiKeyAuth(KEY).cookie()
    assert ApiKeyAuth(KEY).accept_cookie(cookie)
    assert not ApiKeyAuth("another").accept_cookie(cookie)
    assert not ApiKeyAuth(KEY).accept_cookie(cookie[:-2])
    assert not ApiKeyAuth(KEY).accept_cookie(None)
    assert ApiKeyAuth(KEY).cookie_name != ApiKeyAuth("another").cookie_name


def test_the_throttle_forgets_old_addresses() -> None:
    throttle = LoginThrottle()
    for number in range(5000):
        throttle.record_failure(str(number))
    for _ in range(MAX_WRONG_KEYS):
        throttle.record_failure("same")
    assert throttle.retry_after("same") > 0
    assert throttle.retry_after("0") == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"),
        ("a & b &lt;", "a &amp; b &amp;lt;"),
        ("`a < b` ``<i> ` <b>`` <u>", "`a < b` ``<i> ` <b>`` &lt;u>"),
        ("```html\n<i>\n```\n<u>", "```html\n<i>\n```\n&lt;u>"),
        ("1. Do\n   ```\n   a < b\n   ```\n", "1. Do\n   ```\n   a < b\n   ```\n"),
        ("```\n<script>", "```\n<script>"),
        # Text that only resembles code.
        ("\\`<img src=x>`", "\\`&lt;img src=x>`"),
        ("``<img src=x>`", "``&lt;img src=x>`"),
        ("a ```<img src=x>", "a ```&lt;img src=x>"),
        ("`a\nb` <img src=x> `c`", "`a\nb` &lt;img src=x> `c`"),
        ("- a\n\n  ```\n<img src=x>\n", "- a\n\n  ```\n&lt;img src=x>\n"),
        ("~~~\n```\n~~~\n<img src=x>", "~~~\n```\n~~~\n&lt;img src=x>"),
        ("| `a | <img src=x>` |\n|-|-|", "| `a | &lt;img src=x>` |\n|-|-|"),
    ],
)
def test_markup_in_an_answer_is_shown_as_text(text: str, shown: str) -> None:
    assert as_markdown(text) == shown


@needs_browser
@pytest.mark.browser
def test_login_chat_compare_and_a_lost_model_in_a_browser(
    gateway: GatewayProcess, share: ShareFolder
) -> None:
    from playwright.sync_api import expect

    with browser_page() as page:
        elsewhere: list[str] = []
        here = f"http://127.0.0.1:{gateway.port}/"

        def note(request: Any) -> None:
            if not request.url.startswith((here, "data:", "blob:")):
                elsewhere.append(request.url)

        page.on("request", note)
        page.goto(here)
        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("This is not the key of this server.")
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Log in").click()

        # Text typed before the page has loaded can be lost.
        expect(page.get_by_text("Release r-")).to_be_visible(timeout=60_000)
        expect(page.get_by_label("Model")).to_have_value("tone")
        message = page.get_by_placeholder("Write a message")
        message.fill("I lost my dog yesterday.")
        message.press("Enter")
        stop = page.get_by_role("button", name="Stop")
        expect(page.get_by_text("joy joy joy").first).to_be_visible(timeout=60_000)
        stop.click()
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        gateway.wait(lambda _: gateway.metric("stub_active") == 0)

        page.get_by_role("button", name="Golden prompt…").click()
        line, save = (
            page.get_by_role("textbox", name="Golden prompt"),
            page.get_by_role("button", name="Save as"),
        )
        expect(line).to_have_value(re.compile("I lost my dog yesterday.*contains.*joy joy"))
        line.fill(GOLDEN.replace("joy", KEY))
        save.click()
        expect(page.get_by_text("This contains the key of this server. Remove it.")).to_be_visible()
        line.fill(GOLDEN)
        with page.expect_download() as download:
            save.click()
        assert Path(download.value.path()).read_text() == f"{GOLDEN}\n"
        page.get_by_role("button", name="Cancel").click()
        expect(line).to_be_hidden()

        page.get_by_label("Compare with base").check()
        message.fill("HOSTILE")
        message.press("Enter")
        expect(page.get_by_text("<b>bold</b>")).to_have_count(2)
        assert page.title() == "Chat · nbtoolkit", "markup of the model was executed"
        assert page.locator("img[src=x]").count() == 0

        gateway.ready(share.publish(share.release(share.adapter("hue", "red"))))
        message.fill("And now?")
        message.press("Enter")
        expect(page.get_by_text("The model 'tone' does not exist. Known: tiny, hue.")).to_be_visible()
        assert elsewhere == []
