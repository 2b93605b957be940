"""Load base model and tokenizer, and choose device and dtype."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils.logging import disable_progress_bar

from ...chat_template import ChatTemplate
from ...dtype import cpu_has_bfloat16, serving_dtype
from ...stop_tokens import stop_token_ids
from .. import EngineConfig
from .detokenizer import TokenNames
from .errors import EngineStartRefused


@dataclass(frozen=True)
class LoadedModel:
    """The loaded model and tokenizer, with the limits of requests."""

    model: Any
    tokenizer: Any
    backend: Tokenizer
    token_names: TokenNames
    chat_template: ChatTemplate | None
    stop_ids: frozenset[int]
    max_length: int
    embedding_rows: int
    """Token ids of a prompt are below it."""


def load(engine_config: EngineConfig, phase: Callable[[str], None]) -> LoadedModel:
    """Load everything from disk; raise :class:`EngineStartRefused` if this machine cannot serve it."""
    disable_progress_bar()  # not readable in a log
    phase("reading the configuration")
    device = pick_device(engine_config.device)
    config = AutoConfig.from_pretrained(
        engine_config.base.path, local_files_only=True, trust_remote_code=False
    )
    dtype = pick_dtype(engine_config.dtype, getattr(config, "dtype", None), device)
    if engine_config.quantization == "nf4" and device.type != "cuda":
        raise EngineStartRefused(
            "nf4 quantization needs a CUDA GPU (bitsandbytes), and this engine runs on "
            f"{device.type}. Deploy with quantization none, or on a GPU."
        )
    phase("loading the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(
        engine_config.tokenizer_path, local_files_only=True, trust_remote_code=False
    )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise EngineStartRefused(
            f"{engine_config.tokenizer_path} has no fast tokenizer (tokenizer.json), which streaming needs. "
            "Save the tokenizer once with transformers and deploy that folder."
        )
    template = ChatTemplate.of(tokenizer, engine_config.chat_template)
    phase("loading weights")
    model = _weights(engine_config, dtype, device)
    stop_ids = stop_token_ids(model, tokenizer, template)
    limit = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None) or 4096
    if engine_config.max_model_len is not None and engine_config.max_model_len > limit:
        raise EngineStartRefused(
            f"max_model_len is {engine_config.max_model_len}, "
            f"but {engine_config.base.name} supports {limit} positions."
        )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        backend=backend,
        token_names=TokenNames(backend),
        chat_template=template,
        stop_ids=stop_ids,
        max_length=engine_config.max_model_len or limit,
        embedding_rows=model.get_input_embeddings().weight.shape[0],
    )


def pick_device(wanted: str) -> torch.device:
    """Return the GPU if it is usable, unless the CPU is requested."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EngineStartRefused(
            f"A CUDA GPU is requested, but torch cannot use one: {cuda_error() or 'there is none'}"
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def cuda_error() -> str | None:
    """Return why an existing GPU cannot be used; None if it works or there is none."""
    if torch.cuda.is_available() or not (Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()):
        return None
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA"
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return f"{error} (torch {torch.__version__} is built for CUDA {torch.version.cuda})"
    return None


def pick_dtype(wanted: str, stored: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in; "auto" is the base's own if the device is fast at it.

    Measured with SmolLM2-135M on two cores with avx512_bf16: bfloat16 decodes 1.6 times as fast as
    float32. CPUs without it emulate both half formats slowly.
    """
    fast = cpu_has_bfloat16() if device.type == "cpu" else torch.cuda.get_device_capability(device) >= (8, 0)
    return getattr(torch, serving_dtype(wanted, device=device.type, saved=stored, has_bfloat16=fast))


def reserve_cpu_core() -> None:
    """Let torch use all cores but one, within the container's quota.

    Gateway, HTTP and tokenizer share the machine, and an operation split over cores waits for its slowest
    part. SmolLM2-135M on two cores: one thread decodes 1.4 to 1.6 times as fast as two.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        allowed, _, period = quota.read_text(encoding="ascii").strip().partition(" ")
        if allowed != "max":
            count = min(count, max(1, int(allowed) // int(period)))
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, count - 1))


def _weights(engine_config: EngineConfig, dtype: torch.dtype, device: torch.device) -> Any:
    path = engine_config.base.path
    if not list(path.glob("*.safetensors")):
        raise EngineStartRefused(
            f"{path} has no safetensors weights; other formats can run code and are not loaded."
        )
    settings: dict[str, Any] = {}
    if engine_config.quantization == "nf4":
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_use_double_quant=True,
        )
    if device.type == "cuda":
        settings["device_map"] = {"": 0}
    model = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=dtype,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        disable_mmap=engine_config.network_mount,
        **settings,
    )
    return model.eval().requires_grad_(False)
