"""Choose the tokenizer and chat template of a release.

Training scripts save the base's tokenizer with the adapter, in the format of their library's version.
Tokenizers are compared by content, not by bytes; if they are equivalent, the base's is served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbtoolkit.errors import BrokenFile, InvalidAdapter, InvalidBase, InvalidSettings
from nbtoolkit.serving.chat_template import Templates, named_templates
from nbtoolkit.serving.content_hash import file_sha256, template_files
from nbtoolkit.serving.release import ServedTokenizer
from nbtoolkit.utils.json_file import read_object, read_text

_SPECIAL = ("bos_token", "eos_token", "unk_token", "add_bos_token", "add_eos_token")
_BATCHING = ("truncation", "padding", "version")
"""Batching options of the last caller, which do not define the tokenizer; nor does the padding token."""


@dataclass(frozen=True)
class TokenizerFacts:
    """The content of a folder's tokenizer files: a digest per vocabulary file, special tokens, template."""

    vocabularies: Mapping[str, str]
    special: Mapping[str, Any]
    template: Templates | None

    @property
    def exists(self) -> bool:
        """Whether the folder contains a tokenizer; a template alone is not one."""
        return bool(self.vocabularies)

    def is_equivalent_to(self, base: TokenizerFacts) -> bool:
        """Return whether this tokenizer is equivalent to the base's, apart from the template."""
        common = self.vocabularies.keys() & base.vocabularies.keys()
        same_vocabulary = bool(common) and all(self.vocabularies[k] == base.vocabularies[k] for k in common)
        return same_vocabulary and all(base.special.get(k) == v for k, v in self.special.items())

    def digest(self, template: Templates | None) -> str:
        """Return the sha256 over the tokenizer's content and a template."""
        content = json.dumps([dict(self.vocabularies), dict(self.special), template], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def tokenizer_in_force(
    base: Path, base_path: str, adapters: Mapping[str, tuple[Path, str]]
) -> ServedTokenizer:
    """Return the tokenizer and template to serve; ``adapters`` maps names to folder and path on the share.

    Raises :class:`InvalidSettings` if two adapters need different ones, :class:`InvalidBase` without any
    tokenizer, :class:`InvalidAdapter` if an adapter's cannot be read.
    """
    try:
        base_facts = read_tokenizer_facts(base)
    except BrokenFile as error:
        raise InvalidBase(
            f"The base model's tokenizer: {error.message}", next_step=error.next_step
        ) from error
    chosen: dict[str, ServedTokenizer] = {}
    for name, (folder, path) in adapters.items():
        try:
            facts = read_tokenizer_facts(folder)
        except BrokenFile as error:
            raise InvalidAdapter(
                f"A5: the tokenizer of adapter {name!r}: {error.message}",
                next_step=error.next_step,
                check="A5",
            ) from error
        chosen[name] = _served(facts, path, base_facts, base_path)
    if not base_facts.exists and (not chosen or any(served.path == base_path for served in chosen.values())):
        raise InvalidBase(
            f"The base model {base} has no tokenizer, and neither has an adapter.",
            next_step="download the model's tokenizer files into its folder",
            path=base,
        )
    first = next(iter(chosen), None)
    if first is None:
        return ServedTokenizer(
            path=base_path,
            sha256=base_facts.digest(base_facts.template),
            chat_template=base_facts.template,
        )
    for name, served in chosen.items():
        if served.sha256 != chosen[first].sha256:
            raise InvalidSettings(
                f"The adapters {first!r} and {name!r} need different tokenizers or chat templates, and one "
                "release has one of each.",
                next_step="serve them in two deployments, or train them with the same tokenizer and template",
            )
    return chosen[first]


def _served(adapter: TokenizerFacts, path: str, base: TokenizerFacts, base_path: str) -> ServedTokenizer:
    differs = adapter.exists and not adapter.is_equivalent_to(base)
    facts, folder = (adapter, path) if differs else (base, base_path)
    template = adapter.template if adapter.template is not None else base.template
    return ServedTokenizer(
        path=folder,
        sha256=facts.digest(template),
        chat_template=template,
    )


def read_tokenizer_facts(folder: Path) -> TokenizerFacts:
    """Return the content of a folder's tokenizer files; raises :class:`BrokenFile`."""
    readers: dict[str, Callable[[Path], str]] = {
        "tokenizer.json": _vocabulary_digest,
        "tokenizer.model": file_sha256,
        "spiece.model": file_sha256,
        "sentencepiece.bpe.model": file_sha256,
        "vocab.json": lambda path: _digest(read_object(path)),
        "vocab.txt": file_sha256,
    }
    vocabularies = {name: read(folder / name) for name, read in readers.items() if (folder / name).is_file()}
    config = _object(folder / "tokenizer_config.json")
    named = {**_object(folder / "special_tokens_map.json"), **config}
    special = {key: _token(named[key]) for key in _SPECIAL if named.get(key) is not None}
    return TokenizerFacts(vocabularies, special, _template(folder, config))


def _template(folder: Path, config: Mapping[str, Any]) -> Templates | None:
    """Return the chat template, or several by name: ``.jinja`` files before the configuration's."""
    named = {path.stem: path for path in template_files(folder).values()}
    if (default := folder / "chat_template.jinja").is_file():
        named["default"] = default
    templates = {name: read_text(path) for name, path in named.items()}
    if not templates:
        own = _object(folder / "chat_template.json").get("chat_template", config.get("chat_template"))
        templates = named_templates(own)
    templates = {name: _rendered_text(text) for name, text in templates.items()}
    return templates["default"] if templates.keys() == {"default"} else templates or None


def _rendered_text(template: str) -> str:
    """Drop what Jinja drops, line ends of Windows and the last newline, and a byte order mark."""
    return template.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n")


def _vocabulary_digest(path: Path) -> str:
    stat = path.stat()
    return _cached_vocabulary_digest(path, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=32)
def _cached_vocabulary_digest(path: Path, *_mark: int) -> str:
    """Read an unchanged file once: 50,000 tokens take half a second, most of a hot swap's budget."""
    content = {key: value for key, value in read_object(path).items() if key not in _BATCHING}
    model = content.get("model")
    if isinstance(model, dict) and isinstance(model.get("merges"), list):
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
        content["model"] = {**model, "merges": merges}  # older libraries write "a b", newer ["a", "b"]
    return _digest(_without_defaults(content))


def _without_defaults(value: Any) -> Any:
    """Drop null and false at the upper levels: newer library versions write more defaults."""
    if isinstance(value, dict) and len(value) < 100:  # not a vocabulary
        return {
            key: _without_defaults(item)
            for key, item in value.items()
            if item is not None and item is not False
        }
    return value


def _token(value: Any) -> Any:
    return value.get("content") if isinstance(value, dict) else value


def _object(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
