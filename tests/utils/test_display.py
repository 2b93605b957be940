"""Tables of facts in HTML and plain text."""

from __future__ import annotations

from nbtoolkit.utils.display import html_table, text_table


def test_text_table_aligns_and_indents() -> None:
    assert text_table([("a", "1"), ("long", "2\n3")]) == "a     1\nlong  2\n      3"
    assert text_table([]) == ""


def test_html_is_escaped_and_urls_become_links() -> None:
    shown = html_table(
        [("<b>", "<i>"), ("page", "https://a.example/x"), ("both", "see https://a.example")], "<u>"
    )
    assert "<caption>&lt;u&gt;</caption>" in shown
    assert "&lt;b&gt;" in shown
    assert "&lt;i&gt;" in shown
    assert shown.count("<a ") == 1
    assert "<caption>" not in html_table([("a", "b")])


def test_only_the_text_of_a_long_url_is_shortened() -> None:
    url = "https://portal.example/" + "x" * 100 + "/app"
    shown = html_table([("page", url)])
    assert f'href="{url}"' in shown
    assert ">portal.example … app</a>" in shown
