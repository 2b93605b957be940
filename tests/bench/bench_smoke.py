"""The smoke test's model level on the demo adapter, against a plain script that generates the same tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from nbtoolkit import SmokeSettings, Workspace, demo, smoke_test
from nbtoolkit.serving.dtype import cpu_has_bfloat16, serving_dtype
from nbtoolkit.smoke.model_process import _environment  # the same threads for both
from tests.bench.served_model import base_folder

ROUNDS = 3
PLAIN = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, dtype, prompts, tokens, timed = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
model = PeftModel.from_pretrained(model, adapter).eval()
texts = [
    tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    for prompt in prompts
]

def generate(texts, **options):
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    model.generate(**batch, do_sample=False, **options)

def answer_all():
    generate(texts, max_new_tokens=tokens)
    for text in texts[:2]:
        generate([text], max_new_tokens=timed, min_new_tokens=timed)

with torch.inference_mode():
    with model.disable_adapter():
        answer_all()
    answer_all()
"""


def main(rounds: int = ROUNDS) -> dict[str, Any]:
    """Run both alternately in processes of their own, in the dtype that serves; return medians in seconds.

    On a busy machine, the ratio of the CPU times is more exact than that of the durations.
    """
    from nbtoolkit.smoke.model_level.budget import TOKENS
    from nbtoolkit.smoke.model_level.context import GENERIC

    adapter, base = demo.adapter("tone-emotion"), base_folder()
    settings = SmokeSettings(adapter=adapter, base=str(base), levels=["static", "model"], reuse=False)
    task = json.dumps(
        [str(base), str(adapter), _serving_dtype(base), GENERIC, settings.answer_tokens, TOKENS]
    )
    plain, tested = list[_Cost](), list[_Cost]()
    checks: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "infra").mkdir()
        for _ in range(rounds):
            with _measured(plain):
                subprocess.run(
                    [sys.executable, "-c", PLAIN],
                    input=task,
                    text=True,
                    check=True,
                    env=_environment(),
                    stderr=subprocess.DEVNULL,
                )
            with _measured(tested):
                report = smoke_test(settings, workspace=Workspace(Path(folder))).raise_for_failure()
            for one in report.checks:
                if one.level == "model":
                    checks.setdefault(f"{one.id} {one.title}", []).append(one.seconds)
    return {
        "smoke_test_seconds": _spread([one.seconds for one in tested]),
        "plain_script_seconds": _spread([one.seconds for one in plain]),
        "ratio": median(one.seconds for one in tested) / median(one.seconds for one in plain),
        "cpu_ratio": median(one.cpu for one in tested) / median(one.cpu for one in plain),
        "check_seconds": {name: median(seconds) for name, seconds in checks.items()},
    }


def _serving_dtype(base: Path) -> str:
    saved = json.loads((base / "config.json").read_text())["dtype"]
    return serving_dtype("auto", device="cpu", saved=saved, has_bfloat16=cpu_has_bfloat16())


class _Cost(NamedTuple):
    seconds: float
    cpu: float


@contextmanager
def _measured(costs: list[_Cost]) -> Iterator[None]:
    start, cpu = time.monotonic(), _cpu_seconds()
    yield
    costs.append(_Cost(time.monotonic() - start, _cpu_seconds() - cpu))


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": median(seconds), "min": min(seconds), "max": max(seconds)}
