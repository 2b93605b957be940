"""Measure the model level on a 3.8-billion-parameter Phi-3-mini with random weights, in bfloat16 and in nf4.

For a machine with a GPU, in one run: ``python -m tests.bench.gpu_smoke``. It needs 10 GiB of disk, and
bitsandbytes for nf4. ``--tiny`` checks the script itself, with a tiny model and in seconds, also on a CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbtoolkit import SmokeReport, SmokeSettings, Workspace, smoke_test
from tests.bench.__main__ import machine, rows
from tests.support.tiny_models import tiny_adapter, write_tokenizer

LIMIT_SECONDS = 60
LIMIT_MEMORY = 1.15
PHI3_MINI = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "max_position_embeddings": 4096,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 512,
}


def write_base(folder: Path, size: dict[str, int], device: str) -> Path:
    """Write a Phi-3 with random weights in bfloat16, drawn on ``device``."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True)
    end = write_tokenizer(folder)["<|endoftext|>"]
    config = AutoConfig.for_model("phi3", **size, bos_token_id=None, eos_token_id=end, pad_token_id=end)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def needed_bytes(report: SmokeReport, base: Path, tokens: int) -> int:
    """Return the size of weights and KV cache: eight rows of ``tokens`` tokens each, in bfloat16."""
    config = json.loads((base / "config.json").read_text())
    head = config["hidden_size"] // config["num_attention_heads"]
    per_token = 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head
    weights = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    if report.quantization == "nf4":
        outside = 2 * 2 * config["vocab_size"] * config["hidden_size"]  # embeddings and output layer
        weights = outside + (weights - outside) * 0.516 // 2
    return int(weights + 8 * tokens * per_token)


def measure(base: Path, adapter: Path, quantization: str, workspace: Workspace) -> dict[str, Any]:
    """Run the model level once and return its figures."""
    settings = SmokeSettings(
        adapter=adapter,
        base=str(base),
        levels=["static", "model"],
        quantization=quantization,
        norm_warn=100,
        reuse=False,
    )
    start = time.monotonic()
    report = smoke_test(settings, workspace=workspace)
    seconds = time.monotonic() - start
    usage = next((one.evidence for one in report.checks if one.id == "G6"), {})
    needed = needed_bytes(report, base, settings.answer_tokens + 128) / (1 << 30)
    peak = usage.get("peak_gib")
    return {
        "device": report.device,
        "dtype": report.dtype,
        "seconds": seconds,
        "within_60_seconds": seconds < LIMIT_SECONDS,
        "peak_gib": peak,
        "weights_and_kv_gib": needed,
        "peak_ratio": peak / needed if peak else None,
        "within_1.15": bool(peak) and peak <= LIMIT_MEMORY * needed,
        "first_token_seconds": usage.get("seconds_to_first_token"),
        "tokens_per_second": usage.get("tokens_per_second"),
        "verdicts": {f"{one.id} {one.level}": one.verdict for one in report.checks},
        "failed": [one.summary for one in report.failed],
        "check_seconds": {one.id: one.seconds for one in report.checks if one.level == "model"},
    }


def main() -> int:
    """Print the figures with date and device, and write them as JSON."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu_smoke", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="check the script with a tiny model")
    parser.add_argument("--output", type=Path, default=Path("gpu_smoke.json"))
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.tiny:
        parser.error("this machine has no GPU that torch can use; --tiny checks the script on the CPU")
    results: dict[str, Any] = {"machine": machine()}
    if device == "cuda":
        results["machine"] |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "infra").mkdir()
        start = time.monotonic()
        base = write_base(folder / "base", TINY if options.tiny else PHI3_MINI, device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapter = tiny_adapter(folder / "adapter", base, rank=16, alpha=1)
        if device == "cuda":
            torch.cuda.empty_cache()  # the smoke test runs in a process of its own
        results["setup_seconds"] = time.monotonic() - start
        kinds = ["none", *(["nf4"] if device == "cuda" and find_spec("bitsandbytes") else [])]
        for kind in kinds:
            print(f"… {'bfloat16' if kind == 'none' else kind}", file=sys.stderr, flush=True)
            results["bfloat16" if kind == "none" else kind] = measure(base, adapter, kind, Workspace(folder))
            options.output.write_text(json.dumps(results, indent=2))
        if "nf4" not in results:
            results["nf4"] = "not measured: needs CUDA and bitsandbytes"
    width = max(len(label) for label, _ in rows(results))
    for label, text in rows(results):
        print(f"{label:<{width}}  {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
