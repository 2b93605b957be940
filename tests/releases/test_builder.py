"""A release identifies exactly the served files, and the tokenizer and template in force."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nbtoolkit.errors import InvalidAdapter, InvalidBase, InvalidSettings
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.releases.builder import build_release
from nbtoolkit.releases.tokenizer import read_tokenizer_facts
from nbtoolkit.serving.release import EngineSettings, Release
from tests.support.model_folders import TOKENIZER, write_adapter, write_base, write_tokenizer

CODE = "c" * 64
REPORT = "d" * 64
BASE_PATH = "model-cache/org/base"


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return Base.read(write_base(tmp_path / "base"))


@pytest.fixture
def tone(tmp_path: Path) -> Adapter:
    return Adapter.read(write_adapter(tmp_path / "tone", rank_pattern={"q_proj": 16}))


def release(base: Base, engine: EngineSettings | None = None, /, **adapters: Adapter) -> Release:
    return build_release(base, BASE_PATH, adapters, engine or EngineSettings(), CODE)


def another(tmp_path: Path, name: str, fill: bytes = b"\2") -> Path:
    return write_adapter(tmp_path / name, fill=fill)


def changed_tokenizer(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(TOKENIZER), **changes}


def test_release_identifies_all_parts_by_sha256(base: Base, tone: Adapter) -> None:
    made = build_release(
        base,
        BASE_PATH,
        {"tone": tone},
        EngineSettings(quantization="nf4"),
        CODE,
        {"tone": REPORT},
        "  ",
        "e" * 64,
    )
    assert made.base is not None
    assert made.base.model_dump() == {"name": "base", "path": BASE_PATH, "sha256": base.sha256}
    served = made.adapters[0]
    assert (served.name, served.rank, served.sha256) == ("tone", 16, tone.sha256)
    assert served.path == f"nbtoolkit/adapters/{tone.sha256}"
    assert made.engine.quantization == "nf4"
    assert (made.code.sha256, made.code.wheels_sha256) == (CODE, "e" * 64)
    assert made.reports == {"tone": REPORT}
    assert made.override_reason is None


def test_release_id_is_the_hash_of_its_content(tmp_path: Path, base: Base, tone: Adapter) -> None:
    other = Adapter.read(another(tmp_path, "other"))
    both = release(base, tone=tone, other=other)
    assert both.id == release(base, other=other, tone=tone).id
    assert both.id.startswith("r-")
    assert Release.model_validate_json(both.model_dump_json()).id == both.id
    different = [
        release(base, tone=tone),
        release(base, other=tone, tone=other),
        release(base, EngineSettings(quantization="nf4"), tone=tone, other=other),
        build_release(base, BASE_PATH, {"tone": tone, "other": other}, EngineSettings(), "f" * 64),
        build_release(
            base.named("public"), BASE_PATH, {"tone": tone, "other": other}, EngineSettings(), CODE
        ),
    ]
    assert len({both.id, *(one.id for one in different)}) == 6
    with pytest.raises(ValidationError, match="frozen"):
        both.override_reason = "changed"  # type: ignore[misc]


def test_only_other_adapters_need_no_restart(tmp_path: Path, base: Base, tone: Adapter) -> None:
    own = write_tokenizer(another(tmp_path, "other"), {**TOKENIZER, "truncation": {"max_length": 8}})
    old, new = release(base, tone=tone), release(base, tone=Adapter.read(own))
    assert not new.needs_restart_from(old)
    assert new.id != old.id


def test_adapters_that_one_engine_cannot_hold_need_a_restart(tmp_path: Path, base: Base) -> None:
    one, two = (
        Adapter.read(write_adapter(tmp_path / name, target_parameters=[f"experts.{name}"])) for name in "ab"
    )
    old, new = release(base, tone=one), release(base, tone=two)
    assert new.needs_restart_from(old)
    reason = "tone cannot be loaded next to the running tone: "
    assert new.restart_reason(old).startswith(reason)
    with pytest.raises(InvalidSettings, match="cannot hold 'one' and 'two' side by side"):
        release(base, one=one, two=two)


def test_reason_of_a_restart_names_what_changed(base: Base, tone: Adapter) -> None:
    old, new = release(base, tone=tone), release(base, EngineSettings(dtype="float16"), tone=tone)
    assert (new.restart_reason(old), old.restart_reason(old)) == ("the engine settings changed", "")


@pytest.mark.parametrize("name", ["", "-tone", "two words", "a" * 101, "tone\n", "<b>"])
def test_invalid_public_name_is_refused(base: Base, tone: Adapter, name: str) -> None:
    with pytest.raises(InvalidSettings, match="cannot be a public model name"):
        release(base, **{name: tone})


def test_duplicate_names_and_contents_are_refused(base: Base, tone: Adapter) -> None:
    with pytest.raises(InvalidSettings, match="base model's public name 'base'"):
        release(base, **{"base": tone})
    with pytest.raises(InvalidSettings, match="'a' and 'b' are the same adapter"):
        release(base, a=tone, b=tone)
    with pytest.raises(InvalidSettings, match="smoke report for 'other'"):
        build_release(base, BASE_PATH, {"tone": tone}, EngineSettings(), CODE, {"other": REPORT})


def test_invalid_rank_is_refused(tmp_path: Path, base: Base) -> None:
    with pytest.raises(InvalidAdapter, match="A3"):
        release(base, tone=Adapter.read(write_adapter(tmp_path / "x", r=0)))


def test_base_tokenizer_is_served_if_no_adapter_has_one(base: Base, tone: Adapter) -> None:
    for made in (release(base), release(base, tone=tone)):
        assert made.tokenizer is not None
        assert (made.tokenizer.path, made.tokenizer.chat_template) == (BASE_PATH, "T")
    assert release(base).tokenizer == release(base, tone=tone).tokenizer


@pytest.mark.parametrize(
    "same",
    [
        TOKENIZER,
        {**TOKENIZER, "padding": {"pad_id": 2}, "truncation": {"max_length": 512}, "version": "1.1"},
        {
            **TOKENIZER,
            "decoder": None,
            "model": {**TOKENIZER["model"], "merges": ["a b"], "byte_fallback": False},
        },
        dict(reversed(TOKENIZER.items())),
    ],
)
def test_equivalent_tokenizer_counts_as_the_bases(base: Base, tone: Adapter, same: dict[str, Any]) -> None:
    write_tokenizer(tone.path, same, pad_token="</s>", eos_token={"content": "</s>", "lstrip": False})
    made = release(base, tone=Adapter.read(tone.path))
    assert made.tokenizer == release(base).tokenizer


@pytest.mark.parametrize(
    "changes",
    [
        {"added_tokens": [*TOKENIZER["added_tokens"], {"id": 4, "content": "[PAD]", "special": True}]},
        {"model": {**TOKENIZER["model"], "vocab": {"b": 0, "a": 1, "</s>": 2, "ab": 3}}},
        {"model": {**TOKENIZER["model"], "merges": []}},
        {"pre_tokenizer": {"type": "Whitespace"}},
    ],
)
def test_different_tokenizer_is_served_from_the_adapter(
    base: Base, tone: Adapter, changes: dict[str, Any]
) -> None:
    write_tokenizer(tone.path, changed_tokenizer(**changes))
    adapter = Adapter.read(tone.path)
    made = release(base, tone=adapter)
    assert made.tokenizer is not None
    assert made.tokenizer.path == f"nbtoolkit/adapters/{adapter.sha256}"
    assert made.tokenizer.chat_template == "T"
    assert made.needs_restart_from(release(base))


def test_different_eos_token_is_a_different_tokenizer(base: Base, tone: Adapter) -> None:
    write_tokenizer(tone.path, eos_token="ab")
    made = release(base, tone=Adapter.read(tone.path))
    assert made.tokenizer is not None
    assert made.tokenizer.path != BASE_PATH


def test_different_template_is_served_with_the_base_tokenizer(base: Base, tone: Adapter) -> None:
    write_tokenizer(tone.path, template="other {{ messages }}")
    with_tokenizer = release(base, tone=Adapter.read(tone.path)).tokenizer
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tone.path / name).unlink()
    template_alone = release(base, tone=Adapter.read(tone.path)).tokenizer
    assert with_tokenizer == template_alone
    assert with_tokenizer is not None
    assert (with_tokenizer.path, with_tokenizer.chat_template) == (BASE_PATH, "other {{ messages }}")
    base_tokenizer = release(base).tokenizer
    assert base_tokenizer is not None
    assert with_tokenizer.sha256 != base_tokenizer.sha256


def test_adapter_tokenizer_without_template_uses_the_bases(base: Base, tone: Adapter) -> None:
    write_tokenizer(tone.path, changed_tokenizer(pre_tokenizer={"type": "Whitespace"}), template=None)
    made = release(base, tone=Adapter.read(tone.path))
    assert made.tokenizer is not None
    assert made.tokenizer.chat_template == "T"


def test_adapters_of_one_release_must_agree(tmp_path: Path, base: Base, tone: Adapter) -> None:
    write_tokenizer(tone.path, template="other")
    two = Adapter.read(tone.path)
    with pytest.raises(InvalidSettings, match="'a' and 'b' need different tokenizers or chat templates"):
        release(base, a=two, b=Adapter.read(another(tmp_path, "plain")))
    agreeing = write_tokenizer(another(tmp_path, "third"), template="other")
    assert release(base, a=two, b=Adapter.read(agreeing)).tokenizer is not None


def test_chat_template_is_read_from_all_known_files(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    assert read_tokenizer_facts(folder).template is None
    write_tokenizer(folder, template=None, chat_template=[{"name": "default", "template": "of the list"}])
    assert read_tokenizer_facts(folder).template == "of the list"
    write_tokenizer(folder, template=None, chat_template="of the configuration")
    assert read_tokenizer_facts(folder).template == "of the configuration"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "of the json"}))
    assert read_tokenizer_facts(folder).template == "of the json"
    (folder / "chat_template.jinja").write_text("of its own file")
    assert read_tokenizer_facts(folder).template == "of its own file"


def test_named_templates_are_read_from_all_known_files(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    named = {"default": "plain", "tool_use": "with tools"}
    as_list = [{"name": name, "template": text} for name, text in named.items()]
    write_tokenizer(folder, template=None, chat_template=as_list)
    assert read_tokenizer_facts(folder).template == named
    write_tokenizer(folder, template="plain")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/tool_use.jinja").write_text("with tools")
    assert read_tokenizer_facts(folder).template == named


def test_line_ends_and_byte_order_mark_are_not_another_template(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "chat_template.jinja").write_bytes(b"\xef\xbb\xbf{{ 1 }}\r\n{{ 2 }}\r\n")
    assert read_tokenizer_facts(folder).template == "{{ 1 }}\n{{ 2 }}"


def test_missing_or_broken_tokenizer_raises(base: Base, tone: Adapter) -> None:
    (tone.path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(
        InvalidAdapter, match=r"A5: the tokenizer of adapter 'tone': .*tokenizer.json, line 1"
    ):
        release(base, tone=Adapter.read(tone.path))
    (base.path / "tokenizer.json").unlink()
    with pytest.raises(InvalidBase, match="has no tokenizer"):
        release(base)
    write_tokenizer(tone.path)
    made = release(base, tone=Adapter.read(tone.path))
    assert made.tokenizer is not None
    assert made.tokenizer.path.startswith("nbtoolkit/adapters/")
