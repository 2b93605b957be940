"""The hashes that name content: an adapter's files, and the server's own code.

Who publishes and who serves must agree on them, so both import them from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

BLOCK = 1 << 20
"""Bytes read at once: whole files never lie in memory, and a network mount reads in large pieces."""

ADAPTER_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""The files of an adapter that are sent, served and hashed; a training checkpoint holds many more."""


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, read in blocks; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def folder_sha256(files: Mapping[str, Path]) -> str:
    """Return the identity of a set of files: sha256 over each name, size and content hash, by name.

    ``files`` maps posix names inside the folder to where they lie. Costs one read of everything; raises
    OSError where a file is missing.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        path = files[name]
        digest.update(f"{name}\0{path.stat().st_size}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def adapter_files(folder: Path) -> dict[str, Path]:
    """Return which files of a folder make up the adapter, by name; nothing is read."""
    return {name: folder / name for name in ADAPTER_FILES if (folder / name).is_file()}


def adapter_sha256(folder: Path) -> str:
    """Return the identity of the adapter in a folder, the same wherever the folder lies."""
    return folder_sha256(adapter_files(folder))


def code_files(folder: Path) -> dict[str, Path]:
    """Return the files of a server's code by posix name: its Python files, and pages beside them."""
    suffixes = {".py", ".html", ".css", ".js"}
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix in suffixes and path.is_file() and "__pycache__" not in path.parts
    }


def code_sha256(folder: Path) -> str:
    """Return the identity of a server's code, compiled files left out."""
    return folder_sha256(code_files(folder))
