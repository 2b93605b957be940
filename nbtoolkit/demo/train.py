"""Train a demo adapter: a rank-8 LoRA that answers a sentence with one word for its tone.

These commands::

    python -m nbtoolkit.demo.train tone-emotion
    python -m nbtoolkit.demo.train tone-color --start-from tone-emotion --epochs 1
    python -m nbtoolkit.demo.train tone-color --start-from tone-color --epochs 1

made the adapters in this package. It needs the extras ``model`` and ``demo``; a step takes about three
seconds on two CPU cores, an epoch has 50.
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

from nbtoolkit.demo import ADAPTERS, adapter, sentences
from nbtoolkit.demo.model import PUBLIC_NAME, base_model
from nbtoolkit.progress import PrintProgress, Progress
from nbtoolkit.workspace import Workspace

SEED = 7
RANK = 8
BATCH = 8
LEARNING_RATE = 1e-3
IGNORED = -100  # the loss skips this label


def train(
    name: str, base_folder: Path, out: Path, *, start_from: Path | None, epochs: int, progress: Progress
) -> None:
    """Train the adapter ``name`` and write it to ``out`` in bfloat16; an earlier one is replaced.

    With ``start_from``, the folder of another demo adapter, it starts from those weights: only the words
    are new, which halves the steps. The user's message is the bare sentence, and the loss counts the
    answer only: the word and the end of turn. The same seed on the same number of threads gives the same
    adapter.
    """
    random.seed(SEED)
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    model = lora(base, start_from)
    examples = [
        example(tokenizer, sentence.text, ADAPTERS[name][sentence.tone]) for sentence in sentences("train")
    ]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps = epochs * (len(examples) // BATCH)
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=10, num_training_steps=steps)
    model.train()
    progress.phase(f"Training {name}: {steps} steps of {BATCH} sentences")
    start, recent = time.monotonic(), 0.0
    for step, rows in enumerate(batches(examples, epochs), start=1):
        loss = answer_loss(model, *padded(rows, tokenizer.pad_token_id))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent = loss.item() if step == 1 else 0.9 * recent + 0.1 * loss.item()
        progress.advance(step, steps, "steps")
        if step % 25 == 0:
            progress.note(f"step {step}: loss {recent:.3f}, {(time.monotonic() - start) / step:.1f} s a step")
    save(model, out)


def lora(base: Any, start_from: Path | None) -> Any:
    """Return the base model with a trainable LoRA on its attention projections, new or of another adapter."""
    if start_from is not None:
        return PeftModel.from_pretrained(base, str(start_from), is_trainable=True)
    config = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        lora_dropout=0.05,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)


def example(tokenizer: Any, text: str, word: str) -> tuple[list[int], list[int]]:
    """Return the ids of the chat up to the answer, and the ids of the answer with the end of turn."""
    chat = [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    encode = tokenizer.encode
    answer = [*encode(word, add_special_tokens=False), tokenizer.eos_token_id]
    return encode(prompt, add_special_tokens=False), answer


def batches(examples: list[tuple[list[int], list[int]]], epochs: int) -> Iterator[list[Any]]:
    """Yield shuffled batches; an incomplete batch is dropped."""
    for _ in range(epochs):
        shuffled = random.sample(examples, len(examples))
        for start in range(0, len(shuffled) - BATCH + 1, BATCH):
            yield shuffled[start : start + BATCH]


def padded(
    rows: list[tuple[list[int], list[int]]], pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pad on the left, so that all answers end in the last column; returns ids, mask and labels [B, T]."""
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, mask, labels = [], [], []
    for prompt, answer in rows:
        gap = width - len(prompt) - len(answer)
        ids.append([pad] * gap + prompt + answer)
        mask.append([0] * gap + [1] * (width - gap))
        labels.append([IGNORED] * (width - len(answer)) + answer)
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(labels)


def answer_loss(
    model: PeftModel, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Return the mean cross-entropy of the answers' tokens; computes logits for the last columns only."""
    columns = int((labels != IGNORED).sum(dim=1).max())
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=columns + 1
    ).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels[:, -columns:].reshape(-1), ignore_index=IGNORED
    )


def save(model: PeftModel, out: Path) -> None:
    """Write a peft folder; an existing model card is not changed."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    model.peft_config["default"].base_model_name_or_path = PUBLIC_NAME  # not a path on this machine
    fresh = out.with_name(f".{out.name}.partial")
    model.save_pretrained(str(fresh), save_embedding_layers=False)
    (fresh / "README.md").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    for file in fresh.iterdir():
        file.chmod(0o644)  # weights are written through a private temporary file
        file.replace(out / file.name)
    shutil.rmtree(fresh)


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(prog="python -m nbtoolkit.demo.train", description=main.__doc__)
    parser.add_argument("name", choices=list(ADAPTERS))
    parser.add_argument("--cache", type=Path, help="folder with the base model; default: the workspace's")
    parser.add_argument("--out", type=Path, help="default: the adapter's folder in the package")
    parser.add_argument("--epochs", type=int, default=4, help="times over the sentences; default: 4")
    parser.add_argument("--start-from", choices=list(ADAPTERS), help="start from the weights of this adapter")
    given = parser.parse_args()
    progress = PrintProgress()
    folder = base_model(given.cache or Workspace.find(), progress)
    out = given.out or adapter(given.name)
    start = adapter(given.start_from) if given.start_from else None
    train(given.name, folder, out, start_from=start, epochs=given.epochs, progress=progress)


if __name__ == "__main__":
    main()
