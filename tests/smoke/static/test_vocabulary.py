"""A5: tokens without an embedding row, resized embeddings, and tokenizers other than the base's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import SmokeSettings
from nbtoolkit.models.base_model import Base
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext
from nbtoolkit.smoke.static.vocabulary import vocabulary
from tests.support.added_tokens import add_token
from tests.support.tiny_models import tiny_adapter, tiny_base

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vocabulary")
    tiny_adapter(root / "adapter", tiny_base(root / "base", layers=1))
    return root


@pytest.fixture
def adapter(folders: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders / "adapter", tmp_path / "adapter"))


def outcome(folders: Path, adapter: Path, *prompts: str) -> CheckOutcome:
    base = Base.read(folders / "base")
    return vocabulary.run(SmokeContext(adapter, base, SmokeSettings(adapter=str(adapter), base="x"), prompts))


def test_the_bases_own_tokenizer_passes_in_any_spelling(folders: Path, adapter: Path) -> None:
    assert outcome(folders, adapter).verdict == "pass"
    base = folders / "base"
    shutil.copy(base / "tokenizer.json", adapter)
    config = json.loads((base / "tokenizer_config.json").read_text())
    config["chat_template"] = config["chat_template"].replace("\n", "\r\n") + "\n"
    (adapter / "tokenizer_config.json").write_bytes(
        json.dumps(config, indent=4).encode().replace(b"\n", b"\r\n")
    )
    assert outcome(folders, adapter).verdict == "pass"


@pytest.mark.parametrize(
    ("token", "options", "prompts", "verdict", "text"),
    [
        ("[PAD]", {}, (), "warn", "no embedding (the base has 273 rows) for '[PAD]'"),
        ("<|tool|>", {}, (), "warn", "status 400"),
        ("<|tool|>", {"template": "<|tool|>"}, (), "fail", "'<|tool|>' (chat template)"),
        ("<|tool|>", {}, ("call <|tool|>",), "fail", "'<|tool|>' (your prompts)"),
        ("lorem", {"special": False}, (), "fail", "'lorem' (plain text of users)"),
    ],
)
def test_token_without_a_row_fails_if_a_request_can_reach_it(
    folders: Path, adapter: Path, token: str, options: Any, prompts: Any, verdict: str, text: str
) -> None:
    add_token(adapter, folders / "base", token, **options)
    found = outcome(folders, adapter, *prompts)
    assert found.verdict == verdict
    assert text in found.summary
    assert "resize" in found.remedy


def test_stop_string_without_a_row_is_reachable(folders: Path, adapter: Path) -> None:
    add_token(adapter, folders / "base", "<|done|>")
    config = json.loads((adapter / "tokenizer_config.json").read_text())
    (adapter / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<|done|>"}))
    found = outcome(folders, adapter)
    assert (found.verdict, found.evidence["reachable"]) == ("fail", {"<|done|>": "eos_token"})


def test_another_template_is_a_warning_that_says_which_is_served(folders: Path, adapter: Path) -> None:
    (adapter / "chat_template.jinja").write_text("{{ messages[0].content }}")
    found = outcome(folders, adapter)
    assert (found.verdict, found.summary) == (
        "warn",
        "its chat template differ from the base's; the release serves the adapter's",
    )


def test_broken_tokenizer_fails_with_its_file(folders: Path, adapter: Path) -> None:
    (adapter / "tokenizer.json").write_text("{")
    found = outcome(folders, adapter)
    assert found.verdict == "fail"
    assert "tokenizer.json" in found.summary


def test_saved_rows_other_than_the_bases_fail(folders: Path, adapter: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    key = "base_model.model.model.embed_tokens.weight"
    save_file({**load_file(file), key: np.ones((274, 32), np.float32)}, file)
    found = outcome(folders, adapter)
    assert (found.verdict, found.evidence["saved"]) == ("fail", [f"{key} with 274 rows"])


def test_trained_row_beyond_the_embedding_fails(folders: Path, adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "trainable_token_indices": [3, 273]}))
    assert "a trained row for token 273" in outcome(folders, adapter).summary
