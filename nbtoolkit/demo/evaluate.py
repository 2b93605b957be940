"""Measure how often base and demo adapters name the tone of held-out sentences.

    python -m nbtoolkit.demo.evaluate            # all held-out sentences: a table
    python -m nbtoolkit.demo.evaluate --prompts  # the quickstart's five prompts: their answers

Greedy answers in float32. An adapter is right only with exactly its word and the end of turn. For the
base, the first tone anywhere in its answer counts.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from nbtoolkit.demo import ADAPTERS, PROMPTS, TONES, adapter, sentences
from nbtoolkit.demo.model import base_model
from nbtoolkit.workspace import Workspace

INSTRUCTION = (
    "Which emotion does this sentence express: joy, sadness, anger, fear or surprise? "
    "Answer with one word.\n\nSentence: {text}"
)
BATCH = 20
BASE_TOKENS = 24
ADAPTER_TOKENS = 8  # the longest word has three tokens, the end of turn one


class DemoModels:
    """The base model with both adapters loaded; an answer uses one of them or none."""

    def __init__(self, folder: Path, adapters: Path | None = None) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        folders = {name: adapters / name if adapters else adapter(name) for name in ADAPTERS}
        first = next(iter(folders))
        self.model: Any = PeftModel.from_pretrained(base, folders.pop(first), adapter_name=first)
        for name, path in folders.items():
            self.model.load_adapter(path, adapter_name=name)
        self.model.eval()

    def answers(self, messages: Sequence[str], name: str | None, tokens: int) -> list[str]:
        """Return the raw answers, with the end of turn, of an adapter or, for None, of the base."""
        if name is None:
            with self.model.disable_adapter():
                return self._generate(messages, tokens)
        self.model.set_adapter(name)
        return self._generate(messages, tokens)

    def _generate(self, messages: Sequence[str], tokens: int) -> list[str]:
        answers: list[str] = []
        for start in range(0, len(messages), BATCH):
            chats = [[{"role": "user", "content": text}] for text in messages[start : start + BATCH]]
            given = self.tokenizer.apply_chat_template(
                chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
            )
            with torch.inference_mode():
                ids = self.model.generate(**given, max_new_tokens=tokens, do_sample=False)
            answers += [self._text(row) for row in ids[:, given["input_ids"].shape[1] :].tolist()]
        return answers

    def _text(self, row: list[int]) -> str:
        end = self.tokenizer.eos_token_id  # it pads too: keep the first
        return self.tokenizer.decode(row[: row.index(end) + 1] if end in row else row)


def measure(models: DemoModels) -> list[tuple[str, int, int]]:
    """Return label, number of right answers and number of sentences; over all held-out sentences."""
    held_out = sentences("held-out")
    texts = [sentence.text for sentence in held_out]
    rows: list[tuple[str, int, int]] = []
    for label, template in (("the bare sentence", "{text}"), ("the five tones in the question", INSTRUCTION)):
        answers = models.answers([template.format(text=text) for text in texts], None, BASE_TOKENS)
        first_tones = [re.findall("|".join(TONES), answer.lower())[:1] for answer in answers]
        right = sum(first == [sentence.tone] for first, sentence in zip(first_tones, held_out, strict=True))
        rows.append((f"base, {label}", right, len(held_out)))
    for name, words in ADAPTERS.items():
        answers = models.answers(texts, name, ADAPTER_TOKENS)
        expected = [words[sentence.tone] + models.tokenizer.eos_token for sentence in held_out]
        for text, answer, word in zip(texts, answers, expected, strict=True):
            if answer != word:
                sys.stderr.write(f"{name}: {answer!r}, expected {word!r}: {text}\n")
        rows.append((f"{name}, the bare sentence", sum(map(str.__eq__, answers, expected)), len(held_out)))
    return rows


def main() -> None:
    """Measure from the command line and print a table."""
    parser = argparse.ArgumentParser(prog="python -m nbtoolkit.demo.evaluate", description=main.__doc__)
    parser.add_argument("--cache", type=Path, help="folder with the base model; default: the workspace's")
    parser.add_argument("--adapters", type=Path, help="folder with the adapters; default: the package's")
    parser.add_argument("--prompts", action="store_true", help="only answer the quickstart's five prompts")
    given = parser.parse_args()
    models = DemoModels(base_model(given.cache or Workspace.find()), given.adapters)
    lines: list[str] = []
    if given.prompts:
        for name in ADAPTERS:
            answers = models.answers(PROMPTS, name, ADAPTER_TOKENS)
            lines += [f"{name}\t{answer}\t{text}" for answer, text in zip(answers, PROMPTS, strict=True)]
    else:
        lines += ["| model and prompt | right | of | accuracy |", "|---|---|---|---|"]
        lines += [f"| {label} | {right} | {of} | {right / of:.0%} |" for label, right, of in measure(models)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
