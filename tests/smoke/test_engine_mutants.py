"""An engine that applies the adapter partly or changes the base is refuted; a healthy one never is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from nbtoolkit.deployment import live_proof
from nbtoolkit.deployment.proof_requests import ProofRequests
from nbtoolkit.progress import SILENT
from nbtoolkit.serving.fingerprint import Fingerprint, Verdict, judge
from nbtoolkit.smoke.contract_level import ADAPTER, _ContractClient
from tests.support.model_checks import fingerprint_of
from tests.support.running_engine import BASE_NAME, RunningEngine, running_engine
from tests.support.tiny_models import tiny_adapter, tiny_base

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # peft calls what transformers deprecated

SAVED = ["lm_head", "embed_tokens"]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
DORA, OTHER = "dora-adapter", "a_other_version"


def make_adapter(folder: Path, base: Path, seed: int, **lora: Any) -> Path:
    """Write an adapter whose saved modules are trained a little too."""
    from safetensors.torch import load_file, save_file

    tiny_adapter(folder, base, seed=seed, alpha=8, targets=TARGETS, **lora)
    file = folder / "adapter_model.safetensors"
    torch.manual_seed(seed)
    content = {
        key: value if "lora_" in key else value + 0.05 * torch.randn_like(value)
        for key, value in load_file(file).items()
    }
    save_file(content, file, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("mutants")
    base = tiny_base(root / "base", "qwen2")  # with biases
    lora = {"use_rslora": True, "lora_bias": True, "modules_to_save": SAVED}
    return {
        "base": base,
        ADAPTER: make_adapter(root / "adapter", base, 1, **lora),
        OTHER: make_adapter(root / "other", base, 2, **lora),
        DORA: make_adapter(root / "dora", base, 3, use_dora=True),
    }


@pytest.fixture(scope="module")
def prints(folders: dict[str, Path]) -> dict[str, Fingerprint]:
    return {name: fingerprint_of(folders["base"], folders[name], "float32") for name in (ADAPTER, DORA)}


@pytest.fixture(scope="module")
def engine(folders: dict[str, Path]) -> Iterator[RunningEngine]:
    with running_engine(folders["base"], dtype="float32") as running:
        for name in (ADAPTER, OTHER, DORA):
            running.engine.load_adapter(name, folders[name])
        yield running


class Mutant:
    """The engine's model, and what a mutation needs of it."""

    def __init__(self, engine: RunningEngine) -> None:
        self.adapters: Any = engine.engine._adapters
        self.model = engine.model
        self.layers = {
            path: module for path, module in self.model.named_modules() if module in self.adapters._layers
        }

    def drop(self, keep: Callable[[str], bool]) -> None:
        """Remove the adapter from the layers whose path is not kept."""
        for path, layer in self.layers.items():
            if not keep(path):
                layer.scaling[ADAPTER] = 0.0
                layer.lora_B[ADAPTER].bias.zero_()

    def scale(self, factor: float) -> None:
        for layer in self.layers.values():
            layer.scaling[ADAPTER] *= factor

    def drop_saved(self, name: str) -> None:
        wrapper = self.model.get_submodule(name)
        wrapper.modules_to_save[ADAPTER].weight.copy_(wrapper.original_module.weight)

    def add_to_base_bias(self) -> None:
        for layer in self.layers.values():
            if layer.get_base_layer().bias is not None:
                layer.get_base_layer().bias.add_(layer.lora_B[ADAPTER].bias)

    def merge(self) -> None:
        for layer in self.layers.values():
            b, a = layer.lora_B[ADAPTER].weight, layer.lora_A[ADAPTER].weight
            layer.get_base_layer().weight.add_(layer.scaling[ADAPTER] * b @ a)

    def each(self, change: Callable[[Any], None]) -> None:
        for layer in self.layers.values():
            change(layer)

    def answer_with(self, name: str | None, instead_of: str | None) -> None:
        """Activate one model in place of another."""
        activate = self.adapters.activate
        self.adapters.activate = lambda wanted: activate(name if wanted == instead_of else wanted)

    def leave_previous_layer(self) -> None:
        """Copy one layer of the previous adapter over the new one's."""
        layer = next(iter(self.layers.values()))
        for matrices in (layer.lora_A, layer.lora_B):
            for mine, other in zip(matrices[ADAPTER].parameters(), matrices[OTHER].parameters(), strict=True):
                mine.copy_(other)

    def ignore_magnitude(self) -> None:
        for layer in self.layers.values():
            norm = layer.get_base_layer().weight.norm(dim=1)
            layer.lora_magnitude_vector[DORA].weight.copy_(norm)


def zero_last_rank(layer: Any) -> None:
    layer.lora_A[ADAPTER].weight[-1].zero_()


def round_weights(layer: Any) -> None:
    for weight in (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight):
        step = weight.abs().max() / 7
        weight.copy_((weight / step).round() * step)


def drop_bias(layer: Any) -> None:
    layer.lora_B[ADAPTER].bias.zero_()


MUTANTS: dict[str, tuple[str, Callable[[Mutant], None]]] = {
    "saved head dropped": (ADAPTER, lambda m: m.drop_saved("lm_head")),
    "saved embedding dropped": (ADAPTER, lambda m: m.drop_saved("model.embed_tokens")),
    "bias of B dropped": (ADAPTER, lambda m: m.each(drop_bias)),
    "bias written into the base": (ADAPTER, lambda m: m.add_to_base_bias()),
    "one layer dropped": (ADAPTER, lambda m: m.drop(lambda path: ".1." not in path)),
    "one module dropped": (ADAPTER, lambda m: m.drop(lambda path: not path.endswith("2.self_attn.k_proj"))),
    "only v_proj applied": (ADAPTER, lambda m: m.drop(lambda path: "v_proj" in path)),
    "o_proj dropped": (ADAPTER, lambda m: m.drop(lambda path: "o_proj" not in path)),
    "alpha / r in place of rslora": (ADAPTER, lambda m: m.scale(1 / math.sqrt(4))),
    "scaled by 1.1": (ADAPTER, lambda m: m.scale(1.1)),
    "scaled twice": (ADAPTER, lambda m: m.scale(2)),
    "last rank dropped": (ADAPTER, lambda m: m.each(zero_last_rank)),
    "weights rounded to 4 bits": (ADAPTER, lambda m: m.each(round_weights)),
    "merged into the base": (ADAPTER, lambda m: m.merge()),
    "another version of the adapter": (ADAPTER, lambda m: m.answer_with(OTHER, instead_of=ADAPTER)),
    "the base under the adapter's name": (ADAPTER, lambda m: m.answer_with(None, instead_of=ADAPTER)),
    "the adapter under the base's name": (ADAPTER, lambda m: m.answer_with(ADAPTER, instead_of=None)),
    "a layer of the previous adapter": (ADAPTER, lambda m: m.leave_previous_layer()),
    "magnitude of DoRA ignored": (DORA, lambda m: m.ignore_magnitude()),
}
BASE_CHANGED = {"bias written into the base", "merged into the base", "the adapter under the base's name"}
"""Mutants that the answers under the base's name reveal."""


@contextmanager
def mutated(engine: RunningEngine, mutate: Callable[[Mutant], None]) -> Iterator[None]:
    """Change the loaded model between two steps, and restore it at the end."""
    from nbtoolkit.serving.engines.transformers.cpu_kernels import fuse

    mutant = Mutant(engine)
    values = {name: value.detach().clone() for name, value in mutant.model.named_parameters()}
    scaling = {path: dict(layer.scaling) for path, layer in mutant.layers.items()}

    def apply() -> None:
        with torch.no_grad():
            mutate(mutant)
        mutant.each(fuse)

    def restore() -> None:
        mutant.adapters.__dict__.pop("activate", None)
        with torch.no_grad():
            for name, value in mutant.model.named_parameters():
                value.copy_(values[name])
        for path, layer in mutant.layers.items():
            layer.scaling.update(scaling[path])
            fuse(layer)

    engine.call(apply)
    try:
        yield
    finally:
        engine.call(restore)


def contract_point(engine: RunningEngine, fingerprint: Fingerprint) -> tuple[bool, str]:
    release: Any = None  # this point of the contract does not read it
    with httpx.Client() as http:
        return _ContractClient(engine.endpoint, release, fingerprint, http).points()["fingerprint"]()


def live_verdict(engine: RunningEngine, fingerprint: Fingerprint, adapter: str) -> Verdict:
    """Return the verdict of ``nbtoolkit.prove``."""
    release: Any = SimpleNamespace(
        base=SimpleNamespace(name=BASE_NAME), adapters=[SimpleNamespace(name=adapter)]
    )
    report: Any = SimpleNamespace(fingerprint=fingerprint)
    requests = ProofRequests(engine.endpoint, (), SILENT())
    dtype = engine.endpoint.health().dtype
    return live_proof._prove_release(release, {adapter: report}, requests, dtype)[0][adapter]


@pytest.mark.parametrize("name", MUTANTS)
def test_no_mutant_survives(name: str, engine: RunningEngine, prints: dict[str, Fingerprint]) -> None:
    adapter, mutate = MUTANTS[name]
    fingerprint = prints[adapter]
    assert live_verdict(engine, fingerprint, adapter), "healthy before"
    with mutated(engine, mutate):
        verdict = engine.endpoint.prove(fingerprint, adapter, BASE_NAME)
        assert verdict.refuted, verdict
        assert live_verdict(engine, fingerprint, adapter).refuted
        if adapter == ADAPTER:
            holds, detail = contract_point(engine, fingerprint)
            assert not holds, detail
        if name in BASE_CHANGED:
            assert verdict.base is None or not verdict.base, verdict
    after = engine.endpoint.prove(fingerprint, adapter, BASE_NAME)
    assert after, after


def test_healthy_engine_is_proven_in_every_batch_and_under_load(
    engine: RunningEngine, prints: dict[str, Fingerprint]
) -> None:
    endpoint, fingerprint = engine.endpoint, prints[ADAPTER]

    def in_batches(size: int) -> Verdict:
        answers: list[list[dict[int, float]]] = [[], []]
        for first in range(0, 16, size):
            for given, model in zip(answers, (ADAPTER, BASE_NAME), strict=True):
                given += endpoint.replay(model, fingerprint.contexts[first : first + size])
        return judge(fingerprint, *answers)

    def busy(index: int) -> None:
        endpoint.chat(
            "and the " * (1 + 7 * index), (ADAPTER, DORA, BASE_NAME)[index % 3], stream=False, max_tokens=6
        )

    with ThreadPoolExecutor(8) as pool:
        load = [pool.submit(busy, index) for index in range(24)]
        for size in (1, 2, 3, 5, 8, 16):
            verdict = in_batches(size)
            assert verdict, verdict
        for one in load:
            one.result()
    assert contract_point(engine, fingerprint)[0]


def test_healthy_engine_in_bfloat16_is_proven_and_a_dropped_head_is_not(folders: dict[str, Path]) -> None:
    fingerprint = fingerprint_of(folders["base"], folders[ADAPTER], "bfloat16")
    with running_engine(folders["base"], dtype="bfloat16") as engine:
        engine.engine.load_adapter(ADAPTER, folders[ADAPTER])
        for _ in range(3):
            verdict = engine.endpoint.prove(fingerprint, ADAPTER)
            assert verdict, verdict
        for mutant in ("saved head dropped", "only v_proj applied", "the base under the adapter's name"):
            with mutated(engine, MUTANTS[mutant][1]):
                assert engine.endpoint.prove(fingerprint, ADAPTER).refuted, mutant
