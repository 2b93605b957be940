"""A settings model becomes inputs, and what is typed becomes settings or a message beside the field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, SecretStr, field_validator

from nbtoolkit.settings import Settings
from nbtoolkit.widgets.forms.fields import FieldKind, field_specs
from nbtoolkit.widgets.forms.inputs import Input
from nbtoolkit.widgets.forms.state import Draft


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


def test_every_type_survives_the_way_to_its_input_and_back() -> None:
    draft = Draft(FULL)
    for spec in draft.specs:
        if spec.kind is not FieldKind.SECRET:
            draft.put_shown(spec.name, draft.shown(spec.name))
    assert draft.check().settings == FULL


def test_every_type_gets_the_input_that_suits_it() -> None:
    widgets = {
        spec.name: type(Input(spec, Draft(FULL).shown(spec.name), lambda _: None).widget).__name__
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


def test_titles_help_and_folding_come_from_the_model() -> None:
    specs = {spec.name: spec for spec in field_specs(Everything)}
    assert (specs["name"].title, specs["name"].help, specs["name"].required) == (
        "Name",
        "how it is called",
        True,
    )
    assert specs["noted"].help == "from the annotation"
    assert [name for name, spec in specs.items() if spec.advanced] == ["deep"]


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("count", "two", "'two': wanted a whole number"),
        ("count", "0", "'0': wanted at least 1"),
        ("ratio", "much", "'much': wanted a number"),
        ("tags", "LOUD", "['LOUD']: tags are written in lower case"),
        ("adapters", "joy", "line 1, 'joy', is not of the form: name = value"),
        ("adapters", "a = x\n\na = y", "line 3 names 'a' a second time"),
        ("name", " ", "A value is needed"),
    ],
)
def test_a_bad_value_is_explained_at_its_field(field: str, typed: str, said: str) -> None:
    draft = Draft(FULL)
    draft.put_shown(field, typed)
    checked = draft.check()
    assert checked.settings is None
    assert checked.problems == {field: said}


@pytest.mark.parametrize(
    ("field", "value"), [("count", 2), ("maybe", None), ("tags", []), ("folder", Path("models"))]
)
def test_an_emptied_input_means_the_default(field: str, value: Any) -> None:
    draft = Draft(FULL)
    draft.put_shown(field, "")
    settings = draft.check().settings
    assert settings is not None
    assert getattr(settings, field) == value


def test_a_choice_that_may_be_left_to_the_default_says_so() -> None:
    spec = Draft(Everything(name="n")).spec("flag")
    assert Input(spec, spec.show(None), lambda _: None).widget.value == "default"
    assert [spec.read(label) for label in ("default", "yes", "no")] == [None, True, False]


def test_picking_adds_a_line_once_and_counts_as_typed() -> None:
    draft = Draft(FULL)
    typed: list[str] = []
    field = Input(draft.spec("adapters"), "a = x", typed.append, suggestions=["b = y"])
    picker = field.row.children[1]
    for _ in range(2):
        picker.value = "b = y"
        assert picker.value == ""
    assert field.widget.value == "a = x\nb = y"
    assert typed == ["a = x\nb = y"]


def test_a_choice_that_is_required_starts_unchosen() -> None:
    class Needed(Settings):
        size: Literal["small", "large"]

    draft = Draft(Needed)
    assert draft.check().problems == {"size": "A value is needed"}
    draft.put_shown("size", "large")
    assert draft.check().settings == Needed(size="large")


def test_a_type_without_an_input_is_refused_by_name() -> None:
    class Odd(Settings):
        weird: complex = 1j

    with pytest.raises(TypeError, match="'weird'"):
        field_specs(Odd)


def test_changes_are_named() -> None:
    draft = Draft(FULL)
    assert draft.changed_since(FULL) == []
    draft.put_shown("count", "4")
    draft.put_shown("kind", "none")
    assert draft.changed_since(FULL) == ["count", "kind"]
    draft.put_shown("count", "four")
    assert draft.changed_since(FULL) == ["count"]


def test_a_typed_secret_reaches_the_settings_and_leaves_the_widget() -> None:
    draft = Draft(Everything(name="n"))
    box = Input(draft.spec("token"), draft.shown("token"), lambda shown: draft.put_shown("token", shown))
    box.widget.set_state({"value": "hunter2"})  # as the frontend sends it
    settings = draft.check().settings
    assert settings is not None
    assert settings.token == SecretStr("hunter2")
    assert "hunter2" not in str(box.widget.get_state())
    assert box.widget.placeholder == "set, not shown"
    assert box.widget.trait_metadata("value", "echo_update") is False


def test_a_given_secret_never_reaches_the_widget() -> None:
    draft = Draft(FULL)
    box = Input(draft.spec("token"), draft.shown("token"), lambda _: None, is_set=draft.is_set("token"))
    assert "s3cret" not in str(box.widget.get_state())
    assert box.widget.placeholder == "set, not shown"


def test_help_and_problems_are_escaped() -> None:
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
