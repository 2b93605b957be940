"""Requests for log streams: where the token is sent, and how refusals are reported."""

from __future__ import annotations

import httpx
import pytest

from nbtoolkit.errors import AzureFailed
from tests.support.log_streams import END, HOST, FakeApp, console, console_lines, texts


def test_token_is_sent_to_another_host_of_azure() -> None:
    app = FakeApp(one=[[console(1, "a"), END]])
    app.redirect("other.azurecontainerapps.dev")
    assert texts(console_lines(app)) == ["a"]
    assert app.requests[1].url.host == "other.azurecontainerapps.dev"
    assert app.requests[1].headers["authorization"] == "Bearer token-1"


@pytest.mark.parametrize(
    "host", ["azurecontainerapps.dev.evil.example", "evil.example", "notazurecontainerapps.dev"]
)
def test_token_is_not_sent_to_a_foreign_host(host: str) -> None:
    app = FakeApp(one=[[console(1, "a"), END]])
    app.redirect(host)
    with pytest.raises(AzureFailed, match=r"does not belong to azurecontainerapps\.dev"):
        console_lines(app)
    assert [request.url.host for request in app.requests] == [HOST]


def test_redirect_to_plain_http_is_refused() -> None:
    app = FakeApp(one=[[END]])
    app.refuse = lambda _: httpx.Response(302, headers={"location": f"http://{HOST}/x"})
    with pytest.raises(AzureFailed, match="redirected"):
        console_lines(app)


def test_missing_permission_is_named_without_the_token() -> None:
    app = FakeApp(one=[[END]])
    app.refuse = lambda _: httpx.Response(403)
    with pytest.raises(AzureFailed, match="HTTP 403") as refused:
        console_lines(app)
    assert "Microsoft.App/containerApps/logstream/action" in refused.value.next_step
    assert "token-" not in str(vars(refused.value))


def test_last_line_without_a_line_feed_is_yielded() -> None:
    app = FakeApp(one=[[b"one\n\ntwo\r\nthree", END]])
    assert sorted(texts(console_lines(app))) == ["one", "three", "two"]
