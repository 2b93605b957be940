"""The smoke test's model level on the demo adapter, against a plain script that generates the same tokens."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from nbtoolkit import SmokeSettings, Workspace, demo, smoke_test
from nbtoolkit.smoke.model_process import _environment  # the same threads for both
from tests.bench.served_model import base_folder

ROUNDS = 3
PLAIN = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, prompts, tokens, timed = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
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
    """Run both alternately in processes of their own, in float32; return medians in seconds."""
    from nbtoolkit.smoke.model_level.budget import TOKENS
    from nbtoolkit.smoke.model_level.context import GENERIC

    adapter, base = demo.adapter("tone-emotion"), base_folder()
    settings = SmokeSettings(
        adapter=adapter, base=str(base), levels=["static", "model"], dtype="float32", reuse=False
    )
    task = json.dumps([str(base), str(adapter), GENERIC, settings.answer_tokens, TOKENS])
    plain: list[float] = []
    tested: list[float] = []
    checks: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "infra").mkdir()
        for _ in range(rounds):
            start = time.monotonic()
            subprocess.run(
                [sys.executable, "-c", PLAIN], input=task, text=True, check=True, env=_environment(),
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            plain.append(time.monotonic() - start)
            start = time.monotonic()
            report = smoke_test(settings, workspace=Workspace(Path(folder))).raise_for_failure()
            tested.append(time.monotonic() - start)
            for one in report.checks:
                if one.level == "model":
                    checks.setdefault(f"{one.id} {one.title}", []).append(one.seconds)
    return {
        "smoke_test_seconds": {"median": median(tested), "min": min(tested), "max": max(tested)},
        "plain_script_seconds": {"median": median(plain), "min": min(plain), "max": max(plain)},
        "ratio": median(tested) / median(plain),
        "check_seconds": {name: median(seconds) for name, seconds in checks.items()},
    }
