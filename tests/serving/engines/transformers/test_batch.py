"""Answers made together equal answers made alone, token for token."""

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


class Bench:
    """A loop that is stepped by hand, and the answers it gave."""

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
            bench.loop.step()
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


def test_a_row_that_goes_away_frees_its_place_and_disturbs_nobody(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "mistral")
    bench = Bench(base, max_rows=3)
    first, second, third, waiting = (bench.ask(prompt, 30) for prompt in prompts((5, 40, 8, 6)))
    for _ in range(6):
        bench.loop.step()
    assert (bench.loop.rows, bench.loop.waiting) == (3, 1)
    bench.loop.cancel(first)
    bench.loop.step()
    assert (bench.loop.rows, bench.loop.waiting) == (3, 0)
    came = len(bench.events[first])
    bench.finish()
    assert len(bench.events[first]) == came
    reference = alone(base)
    for sequence in (second, third, waiting):
        assert sequence.answer == reference(sequence.prompt, 30)


def test_cancelled_while_waiting_or_in_prefill_never_gets_a_row(tmp_path: Path) -> None:
    bench = Bench(tiny_base(tmp_path / "base"), max_rows=1, piece=8)
    long, waiting = (bench.ask(prompt, 5) for prompt in prompts((40, 5)))
    bench.loop.step()
    assert bench.loop.rows == 1
    bench.loop.cancel(long)
    bench.loop.cancel(waiting)
    bench.loop.step()
    assert not bench.loop.busy
    assert (long.answer, waiting.answer) == ([], [])


def test_a_long_prompt_does_not_stall_running_answers(tmp_path: Path) -> None:
    bench = Bench(tiny_base(tmp_path / "base"), piece=16)
    short, long = (bench.ask(prompt, 40) for prompt in prompts((5, 160)))
    bench.loop.step()
    while not long.answer:
        before = len(short.answer)
        bench.loop.step()
        assert len(short.answer) == before + 1
    assert len(short.answer) >= 160 // 16
    bench.loop.cancel(short)
    bench.loop.cancel(long)
    bench.finish()


def test_adapters_take_turns(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    bench = Bench(base)
    bench.adapters.load("a_one", tiny_adapter(tmp_path / "one", base))
    many = [bench.ask(prompt, 20) for prompt in prompts((4,) * 6)]
    one = bench.ask(many[0].prompt, 20, "a_one")
    for _ in range(12):
        bench.loop.step()
    assert abs(len(many[0].answer) - len(one.answer)) <= 2
    bench.finish()


def test_a_failing_step_fails_its_requests_and_the_next_one_works(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    bench = Bench(base)
    failing = [bench.ask(prompt, 20) for prompt in prompts((4, 6))]
    bench.loop.step()
    broken = bench.model.lm_head.register_forward_hook(
        lambda *_: (_ for _ in ()).throw(RuntimeError("broken"))
    )
    bench.finish()
    broken.remove()
    for sequence in failing:
        (error,) = [event.error for event in bench.events[sequence] if event.error]
        assert (error.status, "broken" in error.message) == (500, True)
    prefilled = bench.ask(failing[0].prompt, 12)
    bench.finish()
    assert prefilled.answer == alone(base)(prefilled.prompt, 12)


def adapter_refused(cause: Exception) -> Exception:
    error = RuntimeError("the adapter does not fit")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (adapter_refused(RuntimeError("CUDA error: unspecified launch failure")), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), False),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (ValueError("broken"), False),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["step", "call"])
def test_a_broken_cuda_context_ends_the_process_and_nothing_else_does(
    where: str, error: Exception, ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        """The process's end."""

    def end() -> None:
        raise Ended

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("nbtoolkit.serving.engines.transformers.errors.exit_process", end)
    bench = Bench(tiny_base(tmp_path / "base", layers=1))
    if where == "step":
        monkeypatch.setattr(bench.loop.model, "forward", fail)
        bench.ask([1, 2, 3], 2)
    else:
        bench.loop.call(fail)
    if ends:
        with pytest.raises(Ended):
            bench.loop.step()
    else:
        bench.finish()


def test_out_of_memory_fails_the_newest_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_base(tmp_path / "base")
    bench = Bench(base)
    asked = [bench.ask(prompt, 20) for prompt in prompts((4, 5, 6, 7))]
    bench.loop.step()
    forward = bench.loop.model.forward

    def scarce(ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(ids) > 2:
            raise torch.cuda.OutOfMemoryError("no memory for so many")
        return forward(ids, *rest)

    monkeypatch.setattr(bench.loop.model, "forward", scarce)
    bench.finish()
    reference = alone(base)
    assert [sequence.answer == reference(sequence.prompt, 20) for sequence in asked] == [
        True,
        True,
        False,
        False,
    ]
    assert all(bench.events[sequence][-1].error for sequence in asked[2:])


def test_an_overflow_in_one_row_does_not_reach_the_next_in_its_place(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    bench = Bench(base)
    first, other = (bench.ask(prompt, 40) for prompt in prompts((30, 5)))
    for _ in range(3):
        bench.loop.step()
    with torch.inference_mode():
        for layer in bench.loop.groups[None].cache.slots:
            layer.keys[0, :, :30] = float("nan")
            layer.values[0, :, :30] = float("nan")
    bench.loop.cancel(first)
    bench.loop.step()
    late = bench.ask(prompts((6,), seed=9)[0], 12)
    bench.finish()
    reference = alone(base)
    assert late.answer == reference(late.prompt, 12)
    assert other.answer == reference(other.prompt, 40)


def test_an_adapter_loaded_and_unloaded_while_others_run_changes_nothing(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    folders = [tiny_adapter(tmp_path / name, base, seed=seed) for seed, name in enumerate(("one", "two"))]
    bench = Bench(base)
    bench.adapters.load("a_one", folders[0])
    (prompt,) = prompts((7,))
    plain, tuned = bench.ask(prompt, 40), bench.ask(prompt, 40, "a_one")
    for _ in range(10):
        bench.loop.step()
    bench.loop.call(lambda: bench.adapters.load("a_two", folders[1]))
    bench.loop.step()
    late = bench.ask(prompt, 10, "a_two")
    bench.loop.step()
    bench.loop.call(lambda: bench.loop.retire("a_one"))
    bench.finish()
    assert bench.adapters.names == ["a_two"]
    assert plain.answer == alone(base)(prompt, 40)
    assert tuned.answer == alone(base, folders[0])(prompt, 40)
    assert late.answer == alone(base, folders[1])(prompt, 10)


def test_a_position_encoding_that_changes_with_length_runs_one_row_at_a_time(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "phi3")
    config = json.loads((base / "config.json").read_text())
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config["rope_parameters"] = {"rope_type": "longrope", "rope_theta": 10000.0, **factors}
    config |= {"original_max_position_embeddings": 48, "sliding_window": None}
    (base / "config.json").write_text(json.dumps(config))
    reference = alone(base)
    bench = Bench(base)
    assert not bench.loop.batched
    assert "longrope" in (bench.loop.model.plan.sequential_reason or "")
    asked = [bench.ask(prompt, 20) for prompt in prompts((10, 40, 60))]
    bench.finish()
    for sequence in asked:
        assert sequence.answer == reference(sequence.prompt, 20)
    assert Bench(base, max_length=48).loop.batched


def test_layers_that_are_not_proven_run_one_row_at_a_time(tmp_path: Path) -> None:
    from transformers import AutoConfig

    base = tmp_path / "mamba"
    tiny_base(base)
    config = AutoConfig.for_model("mamba", vocab_size=271, hidden_size=32, num_hidden_layers=2, state_size=8)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    bench = Bench(base)
    assert not bench.loop.batched
    asked = [bench.ask(prompt, 10) for prompt in prompts((9, 4))]
    bench.finish()
    reference = alone(base)
    assert [sequence.answer for sequence in asked] == [reference(sequence.prompt, 10) for sequence in asked]
