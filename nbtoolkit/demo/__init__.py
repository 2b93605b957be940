"""A demo model and two adapters, for any machine, without a hub or an account.

Both adapters answer with one word for the tone of a sentence: ``tone-emotion`` with *joy, sadness, anger,
fear, surprise*, ``tone-color`` with *gold, blue, red, grey, orange*. Importing this loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from nbtoolkit.demo.model import PUBLIC_NAME, base_model, provide

__all__ = [
    "ADAPTERS",
    "PROMPTS",
    "PUBLIC_NAME",
    "TONES",
    "Sentence",
    "adapter",
    "base_model",
    "provide",
    "sentences",
]

_HERE = Path(__file__).parent

Split = Literal["train", "held-out"]

TONES = ("joy", "sadness", "anger", "fear", "surprise")

ADAPTERS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "tone-emotion": MappingProxyType({tone: tone for tone in TONES}),
        "tone-color": MappingProxyType(
            dict(zip(TONES, ("gold", "blue", "red", "grey", "orange"), strict=True)),
        ),
    }
)
"""Adapter name → tone → answer word; each word belongs to one adapter, so an answer identifies it."""

PROMPTS = (
    "Our neighbours threw a street party and we danced until midnight.",
    "I sit in his chair at night and miss him.",
    "My boss took the credit for my work again and I am fuming.",
    "The water is rising and we are trapped on the roof.",
    "Wow, I did not expect to see you here of all places!",
)
"""Five held-out sentences, one for each of ``TONES`` in that order, that show the difference."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of the data set, its tone, and whether the adapters were trained on it."""

    text: str
    tone: str
    split: Split


def sentences(split: Split | None = None) -> list[Sentence]:
    """Return the data set, or one split of it, in the order of the file."""
    lines = (_HERE / "data" / "tones.jsonl").read_text(encoding="utf-8").splitlines()
    every = [Sentence(**json.loads(line)) for line in lines]
    return [sentence for sentence in every if split in (None, sentence.split)]


def adapter(name: str) -> Path:
    """Return the folder of a demo adapter; raises KeyError that lists all."""
    if name not in ADAPTERS:
        raise KeyError(f"no demo adapter {name!r}; there are: {', '.join(ADAPTERS)}")
    return _HERE / "adapters" / name
