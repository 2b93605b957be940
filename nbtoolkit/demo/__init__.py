"""A demo model and two adapters, for any machine, without a hub or an account.

Both adapters answer with one word for the tone of a sentence: ``tone-emotion`` with *joy, sadness, anger,
fear, surprise*, ``tone-color`` with *gold, blue, red, grey, orange*. Importing this loads no torch.
"""

from __future__ import annotations

from nbtoolkit.demo.model import PUBLIC_NAME, base_model, provide
from nbtoolkit.demo.tones import ADAPTERS, PROMPTS, TONES, Sentence, adapter, sentences

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
