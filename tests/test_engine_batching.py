"""Answers made together equal answers made alone, token for token."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence as Sequence_
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import ARCHITECTURES, SLIDING_WINDOW, tiny_adapter, tiny_base
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from nbtoolkit.serving.engine.choice import Sampling
from nbtoolkit.serving.engine.loop import Loop
from nbtoolkit.serving.engine.lora import Adapters
from nbtoolkit.serving.engine.model import Model
from nbtoolkit.serving.engine.sequence import Event, Sequence

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")
VOCABULARY = 268
"""Ids below the special tokens."""


class Bench:
    """A loop that is stepped by hand, and the answers it gave."""

    def __init__(self, base: Path, *, max_rows: int = 16, max_length: int = 512, piece: int | None = None) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(base).eval()
        self.adapters = Adapters(self.model)
        self.loop = Loop(Model(self.model, max_length), self.adapters, max_rows, lambda: None)
        if piece:
            self.loop.piece = piece
        self.tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        self.events: dict[Sequence, list[Event]] = {}

    def ask(self, prompt: list[int], length: int, adapter: str | None = None, **sampling: Any) -> Sequence:
        events: list[Event] = []
        sequence = Sequence(
            prompt,
            adapter=adapter,
            sampling=Sampling(**{"temperature": 0.0, **sampling}),
            max_tokens=length,
            stop_ids=frozenset(),
            stops=[],
            tokenizer=self.tokenizer,
            deliver=events.append,
        )
        self.events[sequence] = events
        self.loop.submit([sequence])
        return sequence

    def finish(self) -> None:
        for _ in range(5000):
            if not self.loop.busy:
                return
            self.loop.turn()
        raise AssertionError("the loop did not come to an end")


def alone(base: Path, adapter: Path | None = None) -> Callable[[list[int], int], list[int]]:
    """Return a function that answers by transformers' own ``generate``, one prompt at a time."""
    model: Any = AutoModelForCausalLM.from_pretrained(base).eval()
    model.generation_config.eos_token_id = None
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).eval()

    def answer(prompt: list[int], length: int) -> list[int]:
        ids = torch.tensor([prompt])
        whole = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=length
        )
        return whole[0, len(prompt) :].tolist()

    return answer


def prompts(lengths: Sequence_[int], seed: int = 0) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(VOCABULARY) for _ in range(length)] for length in lengths]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_that_join_and_leave_among_base_and_adapters_equal_generate(
    architecture: str, tmp_path: Path
) -> None:
    base = tiny_base(tmp_path / "base", architecture)
    folders = {"a_one": tiny_adapter(tmp_path / "one", base, seed=1, rank=4)}
    folders["a_two"] = tiny_adapter(tmp_path / "two", base, seed=2, rank=6)
    bench = Bench(base, max_rows=6, piece=40)
    assert bench.loop.batched
    for name, folder in folders.items():
        bench.adapters.load(name, folder)
    names = (None, "a_one", "a_two")
    # Shorter than the window, across it while decoding, and longer than it from the start.
    lengths = (3, SLIDING_WINDOW - 4, 7, 2 * SLIDING_WINDOW + 5, 12, 5, 101, 9, SLIDING_WINDOW)
    asked = []
    for number, prompt in enumerate(prompts(lengths)):
        length = 6 + 7 * (number % 4)
        asked.append((bench.ask(prompt, length, names[number % 3]), length))
        for _ in range(number % 3 * 2):
            bench.loop.turn()
    bench.finish()
    references = {name: alone(base, folders.get(name) if name else None) for name in names}
    for sequence, length in asked:
        assert sequence.answer == references[sequence.adapter](sequence.prompt, length)
    assert bench.loop.rows == bench.loop.waiting == 0


def test_the_adapters_of_that_proof_do_change_the_answers(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    adapter = tiny_adapter(tmp_path / "one", base)
    (prompt,) = prompts([9])
    assert alone(base)(prompt, 12) != alone(base, adapter)(prompt, 12)
