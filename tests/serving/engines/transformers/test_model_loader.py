"""The model loader: weights, dtype, adapters, and rejected models."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nbtoolkit.serving.engines import EngineConfig
from nbtoolkit.serving.engines.transformers.adapters import Adapters
from nbtoolkit.serving.engines.transformers.errors import EngineStartRefused
from nbtoolkit.serving.engines.transformers.model_loader import load, pick_dtype
from nbtoolkit.serving.openai_format import ApiError
from tests.support.added_tokens import add_token
from tests.support.tiny_models import END_OF_TEXT, END_OF_TURN, tiny_adapter, tiny_base

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")
CPU, GPU = torch.device("cpu"), torch.device("cuda")
IDS = torch.tensor([[5, 6, 7, 8]])


def options(base: Path, **settings: Any) -> EngineConfig:
    return EngineConfig(port=0, base={"name": "tiny", "path": base}, tokenizer_path=base, **settings)  # type: ignore[arg-type]


def ignore_phase(_: str) -> None:
    """Ignore the reported phase."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("load") / "base")


def test_stop_tokens_are_those_of_base_tokenizer_and_chat_template(base: Path) -> None:
    declared = json.loads((base / "generation_config.json").read_text())
    declared["eos_token_id"] = [7, 9]
    (base / "generation_config.json").write_text(json.dumps(declared))
    loaded = load(options(base), ignore_phase)
    names = (END_OF_TEXT, END_OF_TURN)
    assert loaded.stop_ids == {7, 9, *(loaded.backend.token_to_id(name) for name in names)}


def test_a_pinned_chat_template_is_used(base: Path) -> None:
    for pinned, text in {"{{ 'pinned' }}": "pinned", None: "<|im_start|>"}.items():
        template = load(options(base, chat_template=pinned), ignore_phase).chat_template
        assert template
        assert text in template.render([{"role": "user", "content": "hello"}])


@pytest.mark.parametrize("network_mount", [True, False])
def test_weights_on_a_network_mount_are_read_without_mmap(
    base: Path, network_mount: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = AutoModelForCausalLM.from_pretrained(base).state_dict()
    calls: list[dict[str, Any]] = []
    from_pretrained_of_transformers = AutoModelForCausalLM.from_pretrained

    def from_pretrained(path: Path, **settings: Any) -> Any:
        calls.append(settings)
        return from_pretrained_of_transformers(path, **settings)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    loaded = load(options(base, network_mount=network_mount), ignore_phase)
    assert [settings["disable_mmap"] for settings in calls] == [network_mount]
    assert all(torch.equal(tensor, reference[name]) for name, tensor in loaded.model.state_dict().items())


def test_nf4_without_cuda_is_rejected_with_a_next_step(base: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(EngineStartRefused, match=r"CUDA.*quantization none"):
        load(options(base, quantization="nf4"), ignore_phase)


def test_a_context_longer_than_that_of_the_model_is_rejected(base: Path) -> None:
    with pytest.raises(EngineStartRefused, match=r"600.*512"):
        load(options(base, max_model_len=600), ignore_phase)
    assert load(options(base, max_model_len=64), ignore_phase).max_length == 64


def test_weights_in_another_format_than_safetensors_are_rejected(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", layers=1)
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(EngineStartRefused, match="safetensors"):
        load(options(base), ignore_phase)


@pytest.mark.parametrize(
    ("wanted", "stored", "fast", "chosen"),
    [
        ("auto", torch.bfloat16, True, torch.bfloat16),
        ("auto", torch.bfloat16, False, torch.float32),
        ("auto", torch.float16, True, torch.float32),
        ("auto", "float32", True, torch.float32),
        ("auto", None, True, torch.float32),
        ("bfloat16", torch.float32, False, torch.bfloat16),
    ],
)
def test_auto_dtype_is_that_of_the_base_if_it_is_fast_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, wanted: str, stored: Any, fast: bool, chosen: torch.dtype
) -> None:
    monkeypatch.setattr("nbtoolkit.serving.engines.transformers.model_loader.cpu_has_bfloat16", lambda: fast)
    assert pick_dtype(wanted, stored, CPU) == chosen


def test_auto_dtype_is_float16_on_a_gpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert pick_dtype("auto", torch.bfloat16, GPU) == torch.float16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert pick_dtype("auto", torch.bfloat16, GPU) == torch.bfloat16


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def peft_logits(base: Path, adapter: Path) -> torch.Tensor:
    from peft import PeftModel

    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).eval())


@pytest.mark.parametrize(
    "kind",
    [
        {"rank": 8},
        {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"targets": ("down_proj", "embed_tokens"), "bias": "none"},
    ],
    ids=lambda kind: next(iter(kind)),
)
def test_adapters_loaded_together_equal_peft_and_unload_completely(
    base: Path, tmp_path: Path, kind: dict[str, Any]
) -> None:
    other = tiny_adapter(tmp_path / "other", base, seed=3)
    adapter = tiny_adapter(tmp_path / "adapter", base, seed=4, **kind)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    plain, names = logits(model), set(model.state_dict())
    adapters = Adapters(model)
    adapters.load("a_other", other)
    adapters.load("a_kind", adapter)
    expected = {"a_kind": peft_logits(base, adapter), "a_other": peft_logits(base, other), None: plain}
    assert not torch.allclose(expected["a_kind"], plain, atol=1e-3)
    for name in ("a_kind", None, "a_other", "a_kind", "a_other", None):
        adapters.activate(name)
        torch.testing.assert_close(logits(model), expected[name], atol=1e-5, rtol=1e-4)
    adapters.unload("a_other")
    adapters.activate("a_kind")
    torch.testing.assert_close(logits(model), expected["a_kind"], atol=1e-5, rtol=1e-4)
    adapters.unload("a_kind")
    assert torch.equal(logits(model), plain)
    assert set(model.state_dict()) == names


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base's own weights"),
        ({"init_lora_weights": "olora"}, "changes the base's own weights"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1, 2]}, "activated LoRA"),
        ({"peft_type": "IA3"}, "only LORA"),
        ({"r": 3}, "does not fit"),
        ({"target_modules": ["nothing"]}, "does not fit"),
        ({"target_modules": ["q_proj", "v_proj"]}, "unexpected"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj", "k_proj"]}, "missing"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_an_unsupported_adapter_is_rejected_and_changes_nothing(
    base: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    good = tiny_adapter(tmp_path / "good", base)
    bad = tiny_adapter(tmp_path / "bad", base)
    config = json.loads((bad / "adapter_config.json").read_text())
    if "peft_type" in change:
        config = {k: config[k] for k in ("base_model_name_or_path", "target_modules", "task_type")}
    (bad / "adapter_config.json").write_text(json.dumps({**config, **change}))
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    plain, names = logits(model), set(model.state_dict())
    adapters = Adapters(model)
    with pytest.raises(ApiError, match=words):
        adapters.load("a_bad", bad)
    assert torch.equal(logits(model), plain)
    assert set(model.state_dict()) == names
    adapters.load("a_good", good)
    with pytest.raises(ApiError, match=words):
        adapters.load("a_bad", bad)
    assert adapters.names == ["a_good"]
    assert torch.equal(logits(model), plain)
    adapters.activate("a_good")
    torch.testing.assert_close(logits(model), peft_logits(base, good), atol=1e-5, rtol=1e-4)


def test_an_adapter_that_changes_biases_of_the_base_is_rejected(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "qwen2", layers=2)
    adapter = tiny_adapter(tmp_path / "adapter", base, bias="lora_only")
    other = tiny_adapter(tmp_path / "other", base, seed=3)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    plain = logits(model)
    adapters = Adapters(model)
    adapters.load("a_unchanged", adapter)  # the file contains the base's values
    adapters.unload("a_unchanged")
    adapters.load("a_other", other)
    file = adapter / "adapter_model.safetensors"
    content = load_file(file)
    biases = {key: values + 1 for key, values in content.items() if key.endswith(".bias")}
    assert biases
    save_file({**content, **biases}, file, {"format": "pt"})
    with pytest.raises(ApiError, match=rf'changes {len(biases)} biases.*q_proj.*bias="none".*merge'):
        adapters.load("a_biased", adapter)
    assert adapters.names == ["a_other"]
    assert torch.equal(logits(model), plain)


def assert_served_as_by_peft(base: Path, adapter: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    plain = logits(model)
    adapters = Adapters(model)
    adapters.load("a_lora", adapter)
    assert torch.equal(logits(model), plain)
    adapters.activate("a_lora")
    torch.testing.assert_close(logits(model), peft_logits(base, adapter), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", [{"lora_bias": True}, {"modules_to_save": ["q_proj"]}], ids=str)
def test_biases_of_the_adapter_are_supported(tmp_path: Path, settings: dict[str, Any]) -> None:
    base = tiny_base(tmp_path / "base", "qwen2", layers=2)
    adapter = tiny_adapter(tmp_path / "adapter", base, targets=("v_proj",), **settings)
    file = adapter / "adapter_model.safetensors"
    content = load_file(file)
    biases = {key: values + 1 for key, values in content.items() if key.endswith(".bias")}
    assert biases
    save_file({**content, **biases}, file, {"format": "pt"})
    assert_served_as_by_peft(base, adapter)


def test_saved_modules_are_all_whose_path_ends_with_a_name(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", layers=2)
    adapter = tiny_adapter(tmp_path / "adapter", base, modules_to_save=["norm"])  # and the layers' norms
    file = adapter / "adapter_model.safetensors"
    content = load_file(file)
    norms = {key: values + 0.5 for key, values in content.items() if key.endswith("norm.weight")}
    assert len(norms) == 5
    save_file({**content, **norms}, file, {"format": "pt"})
    assert_served_as_by_peft(base, adapter)


@pytest.mark.parametrize("name", ["a.b", "a b", "", "../x"])
def test_an_adapter_name_that_peft_misreads_is_rejected(base: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ApiError, match="not usable"):
        Adapters(AutoModelForCausalLM.from_pretrained(base)).load(name, tmp_path)


def test_an_adapter_without_safetensors_is_rejected(base: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", base)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ApiError, match=r"adapter_model\.safetensors"):
        Adapters(AutoModelForCausalLM.from_pretrained(base)).load("a", adapter)


@pytest.mark.parametrize("seconds", [0, 4])
def test_the_engine_ends_after_its_gateway_is_killed_even_before_it_started(
    base: Path, seconds: float
) -> None:
    script = (
        "import asyncio, sys\n"
        "from nbtoolkit.serving.engines import EngineConfig\n"
        "from nbtoolkit.serving.gateway.engine_process import EngineProcess\n"
        "async def main():\n"
        "    command = (sys.executable, '-P', '-m', 'nbtoolkit.serving.engines.transformers')\n"
        "    config = EngineConfig.model_validate_json(sys.argv[1])\n"
        "    engine = await EngineProcess.start(command, config)\n"
        "    print(engine._process.pid, flush=True)\n"
        "    await engine.wait()\n"
        "asyncio.run(main())"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, options(base).model_dump_json()],
        env={"OMP_NUM_THREADS": "1", "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    engine = psutil.Process(int(parent.stdout.readline()))
    time.sleep(seconds)
    assert engine.is_running()
    assert engine.status() != psutil.STATUS_ZOMBIE
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert not psutil.wait_procs([engine], timeout=15)[1]


def test_an_engine_with_unreadable_weights_exits_with_the_reason(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", layers=1)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    engine = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "nbtoolkit.serving.engines.transformers",
            "--settings",
            options(base).model_dump_json(),
        ],
        env={"NBTOOLKIT_ENGINE_KEY": "key", "OMP_NUM_THREADS": "1", "PATH": ""},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with engine:
        assert engine.stderr
        stderr = engine.stderr.read()
    assert engine.returncode == 1
    assert "the engine cannot start" in stderr
    assert "SafetensorError" in stderr


def test_the_engine_does_not_start_without_a_key_or_with_wrong_settings(base: Path) -> None:
    def start(key: str, settings: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "nbtoolkit.serving.engines.transformers", "--settings", settings],
            env={"NBTOOLKIT_ENGINE_KEY": key, "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        return done.stderr

    assert "NBTOOLKIT_ENGINE_KEY" in start("", options(base).model_dump_json())
    assert "max_batch" in start(
        "key", options(base).model_dump_json().replace('"max_batch":16', '"max_batch":0')
    )


def test_token_without_an_embedding_row_is_refused_with_its_name(base: Path, tmp_path: Path) -> None:
    from nbtoolkit.serving.engines.transformers.openai_schema import ChatRequest, CompletionRequest
    from nbtoolkit.serving.engines.transformers.tokenization import chat_prompt, completion_prompts

    folder = add_token(tmp_path / "tokenizer", base, "<|tool|>")
    loaded = load(options(base).model_copy(update={"tokenizer_path": folder}), ignore_phase)
    text = "please <|tool|> now"
    chat = ChatRequest(model="tiny", messages=[{"role": "user", "content": text}])  # type: ignore[list-item]
    rows = loaded.embedding_rows
    for encode in (
        lambda: chat_prompt(loaded, chat),
        lambda: completion_prompts(loaded, CompletionRequest(model="tiny", prompt=text)),
        lambda: completion_prompts(loaded, CompletionRequest(model="tiny", prompt=[1, rows])),
    ):
        with pytest.raises(ApiError, match=rf"Token id {rows} \('<\|tool\|>'\) has no embedding") as refused:
            encode()
        assert refused.value.status == 400
