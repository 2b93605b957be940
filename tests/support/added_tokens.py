"""Tokenizers with tokens that the model has no embedding for, as a trainer without a resize leaves them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def add_token(folder: Path, base: Path, token: str, *, special: bool = True, template: str = "") -> Path:
    """Copy the base's tokenizer into ``folder`` with one more token; ``template`` ends the chat template."""
    from tokenizers import AddedToken, Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(base / "tokenizer_config.json", folder)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    added = AddedToken(token, special=special, normalized=False)
    (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([added])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] += template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
