"""Batched decoding returns the same tokens as decoding one sequence at a time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from collections.abc import Sequence as Sequence_
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from nbtoolkit.serving.engines.transformers.adapters import Adapters
from nbtoolkit.serving.engines.transformers.cpu_kernels import pack
from nbtoolkit.serving.engines.transformers.model_runner import ModelRunner
from nbtoolkit.serving.engines.transformers.scheduler import Scheduler
from nbtoolkit.serving.engines.transformers.sequence import SamplingParams, Sequence, TokenEvent
from tests.support.tiny_models import ARCHITECTURES, SLIDING_WINDOW, tiny_adapter, tiny_base

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")
VOCABULARY = 268
"""Ids below the special tokens."""


class ManualScheduler:
    """A scheduler that the test steps, and the events of its sequences."""

    def __init__(
        self, base: Path, *, max_rows: int = 16, max_length: int = 512, piece: int | None = None
    ) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(base).eval()
        assert pack(self.model)  # as the engine does
        self.adapters = Adapters(self.model)
        self.loop = Scheduler(ModelRunner(self.model, max_length), self.adapters, max_rows, lambda: None)
        if piece:
            self.loop.prefill_tokens = piece
        self.tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        self.events: dict[Sequence, list[TokenEvent]] = {}

    def ask(self, prompt: list[int], length: int, adapter: str | None = None, **sampling: Any) -> Sequence:
        events: list[TokenEvent] = []
        sequence = Sequence(
            prompt,
            adapter=adapter,
            sampling=SamplingParams(**{"temperature": 0.0, **sampling}),
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
            self.loop.step()
        raise AssertionError("the scheduler is still busy after 5,000 steps")


def reference_generate(base: Path, adapter: Path | None = None) -> Callable[[list[int], int], list[int]]:
    """Return a function that runs transformers' ``generate`` on one prompt."""
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
    rng = random.Random(seed)
    return [[rng.randrange(VOCABULARY) for _ in range(length)] for length in lengths]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_base_and_adapters_that_join_and_leave_equal_generate(
    architecture: str, tmp_path: Path
) -> None:
    base = tiny_base(tmp_path / "base", architecture)
    folders = {"a_one": tiny_adapter(tmp_path / "one", base, seed=1, rank=4)}
    folders["a_two"] = tiny_adapter(tmp_path / "two", base, seed=2, rank=6)
    scheduler = ManualScheduler(base, max_rows=6, piece=40)
    assert scheduler.loop.batched
    for name, folder in folders.items():
        scheduler.adapters.load(name, folder)
    names = (None, "a_one", "a_two")
    # Shorter than the sliding window, longer while decoding, and longer already as a prompt.
    lengths = (3, SLIDING_WINDOW - 4, 7, 2 * SLIDING_WINDOW + 5, 12, 5, 101, 9, SLIDING_WINDOW)
    submitted = []
    for number, prompt in enumerate(prompts(lengths)):
        length = 6 + 7 * (number % 4)
        submitted.append((scheduler.ask(prompt, length, names[number % 3]), length))
        for _ in range(number % 3 * 2):
            scheduler.loop.step()
    scheduler.finish()
    references = {name: reference_generate(base, folders.get(name) if name else None) for name in names}
    for sequence, length in submitted:
        assert sequence.answer == references[sequence.adapter](sequence.prompt, length)
    assert scheduler.loop.rows == scheduler.loop.waiting == 0


def test_the_adapters_of_these_tests_change_the_output(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    adapter = tiny_adapter(tmp_path / "one", base)
    (prompt,) = prompts([9])
    assert reference_generate(base)(prompt, 12) != reference_generate(base, adapter)(prompt, 12)


def test_a_cancelled_row_frees_its_slot_and_other_rows_equal_generate(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "mistral")
    scheduler = ManualScheduler(base, max_rows=3)
    first, second, third, waiting = (scheduler.ask(prompt, 30) for prompt in prompts((5, 40, 8, 6)))
    for _ in range(6):
        scheduler.loop.step()
    assert (scheduler.loop.rows, scheduler.loop.waiting) == (3, 1)
    scheduler.loop.cancel(first)
    scheduler.loop.step()
    assert (scheduler.loop.rows, scheduler.loop.waiting) == (3, 0)
    delivered = len(scheduler.events[first])
    scheduler.finish()
    assert len(scheduler.events[first]) == delivered
    reference = reference_generate(base)
    for sequence in (second, third, waiting):
        assert sequence.answer == reference(sequence.prompt, 30)


def test_a_sequence_cancelled_while_waiting_or_in_prefill_is_not_decoded(tmp_path: Path) -> None:
    scheduler = ManualScheduler(tiny_base(tmp_path / "base"), max_rows=1, piece=8)
    long, waiting = (scheduler.ask(prompt, 5) for prompt in prompts((40, 5)))
    scheduler.loop.step()
    assert scheduler.loop.rows == 1
    scheduler.loop.cancel(long)
    scheduler.loop.cancel(waiting)
    scheduler.loop.step()
    assert not scheduler.loop.busy
    assert (long.answer, waiting.answer) == ([], [])


def test_a_long_prefill_does_not_stall_running_sequences(tmp_path: Path) -> None:
    scheduler = ManualScheduler(tiny_base(tmp_path / "base"), piece=16)
    short, long = (scheduler.ask(prompt, 40) for prompt in prompts((5, 160)))
    scheduler.loop.step()
    while not long.answer:
        before = len(short.answer)
        scheduler.loop.step()
        assert len(short.answer) == before + 1
    assert len(short.answer) >= 160 // 16
    scheduler.loop.cancel(short)
    scheduler.loop.cancel(long)
    scheduler.finish()


def test_adapters_are_scheduled_in_turn(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    scheduler = ManualScheduler(base)
    scheduler.adapters.load("a_one", tiny_adapter(tmp_path / "one", base))
    many = [scheduler.ask(prompt, 20) for prompt in prompts((4,) * 6)]
    one = scheduler.ask(many[0].prompt, 20, "a_one")
    for _ in range(12):
        scheduler.loop.step()
    assert abs(len(many[0].answer) - len(one.answer)) <= 2
    scheduler.finish()


def test_a_failed_step_fails_its_requests_and_later_requests_succeed(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    scheduler = ManualScheduler(base)
    failing = [scheduler.ask(prompt, 20) for prompt in prompts((4, 6))]
    scheduler.loop.step()
    broken = scheduler.model.lm_head.register_forward_hook(
        lambda *_: (_ for _ in ()).throw(RuntimeError("broken"))
    )
    scheduler.finish()
    broken.remove()
    for sequence in failing:
        (error,) = [event.error for event in scheduler.events[sequence] if event.error]
        assert (error.status, "broken" in error.message) == (500, True)
    prefilled = scheduler.ask(failing[0].prompt, 12)
    scheduler.finish()
    assert prefilled.answer == reference_generate(base)(prefilled.prompt, 12)


def load_error(cause: Exception) -> Exception:
    error = RuntimeError("the adapter does not fit")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (load_error(RuntimeError("CUDA error: unspecified launch failure")), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), False),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (ValueError("broken"), False),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["step", "call"])
def test_only_a_broken_cuda_context_ends_the_process(
    where: str, error: Exception, ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        """Raised in place of the process exit."""

    def end() -> None:
        raise Ended

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("nbtoolkit.serving.engines.transformers.errors.exit_process", end)
    scheduler = ManualScheduler(tiny_base(tmp_path / "base", layers=1))
    if where == "step":
        monkeypatch.setattr(scheduler.loop.model, "forward", fail)
        scheduler.ask([1, 2, 3], 2)
    else:
        scheduler.loop.call(fail)
    if ends:
        with pytest.raises(Ended):
            scheduler.loop.step()
    else:
        scheduler.finish()


def test_out_of_memory_fails_the_newest_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_base(tmp_path / "base")
    scheduler = ManualScheduler(base)
    submitted = [scheduler.ask(prompt, 20) for prompt in prompts((4, 5, 6, 7))]
    scheduler.loop.step()
    forward = scheduler.loop.model.forward

    def forward_at_most_two(ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(ids) > 2:
            raise torch.cuda.OutOfMemoryError("no memory for so many")
        return forward(ids, *rest)

    monkeypatch.setattr(scheduler.loop.model, "forward", forward_at_most_two)
    scheduler.finish()
    reference = reference_generate(base)
    assert [sequence.answer == reference(sequence.prompt, 20) for sequence in submitted] == [
        True,
        True,
        False,
        False,
    ]
    assert all(scheduler.events[sequence][-1].error for sequence in submitted[2:])


def test_nan_in_the_kv_cache_of_a_row_does_not_affect_the_next_row_of_its_slot(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    scheduler = ManualScheduler(base)
    first, other = (scheduler.ask(prompt, 40) for prompt in prompts((30, 5)))
    for _ in range(3):
        scheduler.loop.step()
    with torch.inference_mode():
        for layer in scheduler.loop.groups[None].cache.slots:
            layer.keys[0, :, :30] = float("nan")
            layer.values[0, :, :30] = float("nan")
    scheduler.loop.cancel(first)
    scheduler.loop.step()
    late = scheduler.ask(prompts((6,), seed=9)[0], 12)
    scheduler.finish()
    reference = reference_generate(base)
    assert late.answer == reference(late.prompt, 12)
    assert other.answer == reference(other.prompt, 40)


def test_loading_and_unloading_an_adapter_does_not_change_running_sequences(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    folders = [tiny_adapter(tmp_path / name, base, seed=seed) for seed, name in enumerate(("one", "two"))]
    scheduler = ManualScheduler(base)
    scheduler.adapters.load("a_one", folders[0])
    (prompt,) = prompts((7,))
    plain, tuned = scheduler.ask(prompt, 40), scheduler.ask(prompt, 40, "a_one")
    for _ in range(10):
        scheduler.loop.step()
    scheduler.loop.call(lambda: scheduler.adapters.load("a_two", folders[1]))
    scheduler.loop.step()
    late = scheduler.ask(prompt, 10, "a_two")
    scheduler.loop.step()
    scheduler.loop.call(lambda: scheduler.loop.retire("a_one"))
    scheduler.finish()
    assert scheduler.adapters.names == ["a_two"]
    assert plain.answer == reference_generate(base)(prompt, 40)
    assert tuned.answer == reference_generate(base, folders[0])(prompt, 40)
    assert late.answer == reference_generate(base, folders[1])(prompt, 10)


def test_a_position_encoding_that_depends_on_length_disables_batching(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "phi3")
    config = json.loads((base / "config.json").read_text())
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config["rope_parameters"] = {"rope_type": "longrope", "rope_theta": 10000.0, **factors}
    config |= {"original_max_position_embeddings": 48, "sliding_window": None}
    (base / "config.json").write_text(json.dumps(config))
    reference = reference_generate(base)
    scheduler = ManualScheduler(base)
    assert not scheduler.loop.batched
    assert "longrope" in (scheduler.loop.model.plan.sequential_reason or "")
    submitted = [scheduler.ask(prompt, 20) for prompt in prompts((10, 40, 60))]
    scheduler.finish()
    for sequence in submitted:
        assert sequence.answer == reference(sequence.prompt, 20)
    assert ManualScheduler(base, max_length=48).loop.batched


def test_unsupported_layers_disable_batching(tmp_path: Path) -> None:
    from transformers import AutoConfig

    base = tmp_path / "mamba"
    tiny_base(base)
    config = AutoConfig.for_model("mamba", vocab_size=271, hidden_size=32, num_hidden_layers=2, state_size=8)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    scheduler = ManualScheduler(base)
    assert not scheduler.loop.batched
    submitted = [scheduler.ask(prompt, 10) for prompt in prompts((9, 4))]
    scheduler.finish()
    reference = reference_generate(base)
    assert [sequence.answer for sequence in submitted] == [
        reference(sequence.prompt, 10) for sequence in submitted
    ]
