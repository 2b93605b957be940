"""Form fields: input widgets from a settings model, and settings or error messages from the inputs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, SecretStr, field_validator

from nbtoolkit.settings import Settings
from nbtoolkit.widgets.forms.fields import OMITTED, FieldKind, field_specs
from nbtoolkit.widgets.forms.inputs import Input
from nbtoolkit.widgets.forms.model import FormState


class Everything(Settings):
    name: str = Field(title="Name", description="how it is called")
    folder: Path = Path("models")
    count: int = Field(default=2, ge=1, description="how many")
    ratio: float = 0.5
    loud: bool = False
    kind: Literal["none", "nf4"] = "none"
    maybe: int | None = None
    flag: bool | None = None
    tags: list[str] = Field(default_factory=list)
    pairs: tuple[str, ...] = ()
    levels: tuple[Literal["static", "model"], ...] = ("static", "model")
    adapters: dict[str, Path] = Field(default_factory=dict)
    token: SecretStr | None = None
    noted: Annotated[str, Field(description="from the annotation")] = "x"
    text: str = Field(default="", json_schema_extra={"multiline": True})
    deep: str = Field(default="d", json_schema_extra={"advanced": True})

    @field_validator("tags")
    @classmethod
    def _no_shouting(cls, tags: list[str]) -> list[str]:
        if any(tag.isupper() for tag in tags):
            raise ValueError("tags are written in lower case")
        return tags


FULL = Everything(
    name="a",
    folder=Path("x/y"),
    count=3,
    ratio=0.25,
    loud=True,
    kind="nf4",
    maybe=7,
    flag=False,
    tags=["one", "two"],
    pairs=("p",),
    levels=("model",),
    adapters={"joy": Path("adapters/joy"), "b": Path("c = d")},
    token=SecretStr("s3cret"),
    text=" two\nlines ",
)


def test_every_field_type_survives_a_round_trip_through_its_input() -> None:
    state = FormState(FULL)
    for spec in state.specs:
        if spec.kind is not FieldKind.SECRET:
            state.set_input(spec.name, state.input_value(spec.name))
    assert state.validate().settings == FULL


def test_every_field_type_has_its_input_widget() -> None:
    widgets = {
        spec.name: type(Input(spec, FormState(FULL).input_value(spec.name), lambda _: None).widget).__name__
        for spec in field_specs(Everything)
    }
    assert widgets == {
        "name": "Text",
        "folder": "Text",
        "count": "Text",
        "ratio": "Text",
        "loud": "Checkbox",
        "kind": "Dropdown",
        "maybe": "Text",
        "flag": "Dropdown",
        "tags": "Textarea",
        "pairs": "Textarea",
        "levels": "SelectMultiple",
        "adapters": "Textarea",
        "token": "SecretBox",
        "noted": "Text",
        "text": "Textarea",
        "deep": "Text",
    }


def test_title_help_and_advanced_come_from_the_settings_model() -> None:
    specs = {spec.name: spec for spec in field_specs(Everything)}
    assert (specs["name"].title, specs["name"].help) == ("Name", "how it is called")
    assert specs["name"].default is OMITTED, "the model has no default"
    assert specs["noted"].help == "from the annotation"
    assert [name for name, spec in specs.items() if spec.advanced] == ["deep"]


@pytest.mark.parametrize(
    ("field", "typed", "message"),
    [
        ("count", "two", "'two': wanted a whole number"),
        ("count", "0", "'0': wanted at least 1"),
        ("ratio", "much", "'much': wanted a number"),
        ("tags", "LOUD", "['LOUD']: tags are written in lower case"),
        ("adapters", "joy", "line 1, 'joy', is not of the form: name = value"),
        ("adapters", "a = x\n\na = y", "line 3 repeats the name 'a'"),
        ("name", " ", "A value is needed"),
    ],
)
def test_an_invalid_value_has_an_error_message_at_its_field(field: str, typed: str, message: str) -> None:
    state = FormState(FULL)
    state.set_input(field, typed)
    validated = state.validate()
    assert validated.settings is None
    assert validated.problems == {field: message}


@pytest.mark.parametrize(
    ("field", "value"), [("count", 2), ("maybe", None), ("tags", []), ("folder", Path("models"))]
)
def test_an_empty_input_means_the_default(field: str, value: Any) -> None:
    state = FormState(FULL)
    state.set_input(field, "")
    settings = state.validate().settings
    assert settings is not None
    assert getattr(settings, field) == value


def test_an_optional_choice_offers_the_default() -> None:
    spec = FormState(Everything(name="n")).spec("flag")
    assert Input(spec, spec.to_input(None), lambda _: None).widget.value == "default"
    assert [spec.from_input(label) for label in ("default", "yes", "no")] == [None, True, False]


def test_the_picker_adds_a_line_once_and_reports_a_change() -> None:
    state = FormState(FULL)
    typed: list[str] = []
    field = Input(state.spec("adapters"), "a = x", typed.append, suggestions=["b = y"])
    picker = field.row.children[1]
    for _ in range(2):
        picker.value = "b = y"
        assert picker.value == ""
    assert field.widget.value == "a = x\nb = y"
    assert typed == ["a = x\nb = y"]


def test_a_required_choice_has_no_initial_value() -> None:
    class Needed(Settings):
        size: Literal["small", "large"]

    state = FormState(Needed)
    assert state.validate().problems == {"size": "A value is needed"}
    state.set_input("size", "large")
    assert state.validate().settings == Needed(size="large")


def test_a_type_without_an_input_widget_is_an_error_with_the_field_name() -> None:
    class Odd(Settings):
        weird: complex = 1j

    with pytest.raises(TypeError, match="'weird'"):
        field_specs(Odd)


def test_changed_since_returns_the_changed_fields() -> None:
    state = FormState(FULL)
    assert state.changed_since(FULL) == []
    state.set_input("count", "4")
    state.set_input("kind", "none")
    assert state.changed_since(FULL) == ["count", "kind"]
    state.set_input("count", "four")
    assert state.changed_since(FULL) == ["count"]


def test_a_typed_secret_is_in_the_settings_and_not_in_the_widget() -> None:
    state = FormState(Everything(name="n"))
    box = Input(state.spec("token"), "", partial(state.set_input, "token"))
    box.widget.set_state({"value": "hunter2"})  # as the frontend sends it
    settings = state.validate().settings
    assert settings is not None
    assert settings.token == SecretStr("hunter2")
    assert "hunter2" not in str(box.widget.get_state())
    assert box.widget.placeholder == "set, not shown"
    assert box.widget.trait_metadata("value", "echo_update") is False


def test_an_initial_secret_is_not_in_the_widget() -> None:
    state = FormState(FULL)
    box = Input(state.spec("token"), state.input_value("token"), lambda _: None, is_set=state.is_set("token"))
    assert "s3cret" not in str(box.widget.get_state())
    assert box.widget.placeholder == "set, not shown"


def test_help_and_error_messages_are_escaped() -> None:
    canary = "<img src=x onerror=alert(1)>"

    class Hostile(Settings):
        name: str = Field(default="", description=canary)

    field = Input(field_specs(Hostile)[0], "", lambda _: None)
    note = field.row.children[1]
    assert canary not in note.value
    assert "&lt;img" in note.value
    field.show_problem(canary)
    assert canary not in note.value
    assert "&lt;img" in note.value
