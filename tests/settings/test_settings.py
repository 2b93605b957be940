"""Settings: validation, messages, secrets and display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.errors import InvalidSettings
from tests.support.step_settings import SECRET, Other, Required, Step

CANARY = "<img src=x onerror=alert(1)>"


def message(**values: Any) -> str:
    with pytest.raises(InvalidSettings) as caught:
        Step(**values)
    return str(caught.value)


def test_values_are_converted_to_the_type_of_the_field() -> None:
    step = Step(adapters="models/tone", base=2, length="32", ratio="0.25", keep="true")
    assert step.adapters == {"tone": Path("models/tone")}
    assert (step.base, step.length, step.ratio, step.keep) == ("2", 32, 0.25, True)
    assert Step(base=Path("models/base")).base == "models/base"


def test_the_error_lists_every_invalid_setting_with_value_and_expectation() -> None:
    text = message(
        base=True, length=0, quantization="int8", adapters=[], keep="perhaps", inner={"depth": "x"}
    )
    for line in (
        "Step: 6 settings are not valid.",
        "  base = True: wanted text",
        "  length = 0: wanted at least 16 (tokens)",
        "  quantization = 'int8': wanted one of 'none' or 'nf4'",
        "  adapters = []: an empty list serves no adapter",
        "  keep = 'perhaps': wanted True or False",
        "  inner = {'depth': 'x'}: depth = 'x': wanted a whole number",
    ):
        assert line in text.splitlines()
    assert "Next: correct adapters, base, length, quantization, keep, inner" in text


def test_an_unknown_name_is_rejected_with_the_nearest_setting() -> None:
    assert "adaptors is not a setting; did you mean 'adapters'?" in message(adaptors="x")
    assert "zebra is not a setting; the settings are: adapters, base," in message(zebra=1)


def test_the_item_of_a_setting_is_named() -> None:
    assert "adapters ['tone'] = 3: wanted a path" in message(adapters={"tone": 3})


@pytest.mark.parametrize(
    "build",
    [
        lambda **values: Step(**values),
        lambda **values: Step.model_validate(values),
        lambda **values: Step.model_validate_json('{"length": "long"}'),
    ],
)
def test_every_constructor_raises_the_same_error(build: Any) -> None:
    with pytest.raises(InvalidSettings, match=r"(?m)^  length = 'long': wanted a whole number \(tokens\)$"):
        build(length="long")


def test_invalid_json_is_not_repeated_in_the_error() -> None:
    with pytest.raises(InvalidSettings, match="Step invalid JSON") as caught:
        Step.model_validate_json('{"api_key": "' + SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1000.0])
def test_a_number_that_papermill_converted_from_text_is_rejected(value: float) -> None:
    assert f"base = {value!r}: wanted text, not a number; papermill -p guesses types" in message(base=value)


def test_a_number_must_be_finite() -> None:
    assert "ratio = inf: wanted a finite number" in message(ratio=float("inf"))


def test_secrets_are_in_no_error_and_no_display() -> None:
    step = Step(api_key=SECRET)
    shown = [str(step), repr(step), step._repr_html_()]
    with pytest.raises(InvalidSettings) as caught:
        Step(api_key=[SECRET], hf_token=SECRET, length="x")
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    shown += [repr(error) + str(error) for error in chain if error]
    assert not [text for text in shown if SECRET in text]
    assert "api_key = (hidden)" in str(caught.value)


def test_display_as_plain_text_and_escaped_html() -> None:
    step = Step(base=CANARY, adapters={"tone": Path("a")})
    assert "  base         = '<img" in str(step)
    assert "  adapters     = {'tone': 'a'}" in str(step)
    assert CANARY not in step._repr_html_()
    assert "&lt;img" in step._repr_html_()


def test_changed_returns_the_names_that_differ() -> None:
    assert Step(length=32).changed(Step(length=32)) == []
    assert Step(length=32, base="a").changed(Step(length=64, base="b")) == ["base", "length"]
    assert Required(base="a").changed(Other()) == ["base", "target"]
