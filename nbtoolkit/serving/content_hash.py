"""Content hashes of adapters and of the server's code.

Publisher and server must compute the same hashes, so both import them from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

BLOCK = 1 << 20
"""Bytes per read: a whole file is never in memory, and a network mount is read in large blocks."""

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
"""The files of an adapter that are uploaded, served and hashed; a training checkpoint has many more.

So are the ``.jinja`` files in ``TEMPLATES``.
"""

TEMPLATES = "additional_chat_templates"
"""The folder of the named chat templates, such as ``tool_use.jinja``."""


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, read in blocks; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def folder_sha256(files: Mapping[str, Path]) -> str:
    """Return the identity of a set of files: sha256 over each name, size and content hash, by name.

    ``files`` maps posix names inside the folder to paths. Costs one read of every file; raises OSError if one
    is missing.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        path = files[name]
        digest.update(f"{name}\0{path.stat().st_size}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def adapter_files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that belong to the adapter, by name; no file is read."""
    files = {name: folder / name for name in ADAPTER_FILES if (folder / name).is_file()}
    return {**files, **template_files(folder)}


def template_files(folder: Path) -> dict[str, Path]:
    """Return the named chat templates of an adapter or a base by posix name; no file is read."""
    return {f"{TEMPLATES}/{path.name}": path for path in sorted((folder / TEMPLATES).glob("*.jinja"))}


def adapter_sha256(folder: Path) -> str:
    """Return the identity of the adapter in a folder; it does not depend on the folder's path."""
    return folder_sha256(adapter_files(folder))


def code_files(folder: Path) -> dict[str, Path]:
    """Return the files of a server's code by posix name: Python files and web pages."""
    suffixes = {".py", ".html", ".css", ".js"}
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix in suffixes and path.is_file() and "__pycache__" not in path.parts
    }


def code_sha256(folder: Path) -> str:
    """Return the identity of a server's code, without compiled files."""
    return folder_sha256(code_files(folder))
