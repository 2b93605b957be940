"""One table of facts for every value that has some, in a notebook and as text."""

from __future__ import annotations

from nbtoolkit.utils.display import html_table, text_table


def test_texts_stand_below_each_other_and_longer_ones_are_indented() -> None:
    assert text_table([("a", "1"), ("long", "2\n3")]) == "a     1\nlong  2\n      3"
    assert text_table([]) == ""


def test_what_comes_from_outside_is_escaped_and_addresses_become_links() -> None:
    shown = html_table(
        [("<b>", "<i>"), ("page", "https://a.example/x"), ("both", "see https://a.example")], "<u>"
    )
    assert "<caption>&lt;u&gt;</caption>" in shown
    assert "&lt;b&gt;" in shown
    assert "&lt;i&gt;" in shown
    assert shown.count("<a ") == 1
    assert "<caption>" not in html_table([("a", "b")])


def test_a_long_address_is_shortened_only_to_the_eye() -> None:
    url = "https://portal.example/" + "x" * 100 + "/app"
    shown = html_table([("page", url)])
    assert f'href="{url}"' in shown
    assert ">portal.example … app</a>" in shown
