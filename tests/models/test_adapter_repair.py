"""A repaired copy has the tensors of the original, byte for byte, under the names that peft loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nbtoolkit import Adapter, repair_adapter
from nbtoolkit.errors import InvalidAdapter, StoreError
from nbtoolkit.models.adapter import repair_command
from nbtoolkit.models.adapter_keys import fits_causal_lm, repaired_key
from nbtoolkit.models.adapter_repair import loadable_folder
from tests.support import sick_adapters as sick
from tests.support.model_folders import LORA, Shapes, write_adapter
from tests.support.sick_adapters import CONFIG, WEIGHTS

P = sick.PREFIX
Q = f"{P}model.layers.0.self_attn.q_proj"
SHAPES: Shapes = {
    name.replace("layers.0", f"layers.{layer}"): entry for layer in range(4) for name, entry in LORA.items()
}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = write_adapter(tmp_path / "my adapter", SHAPES, task_type="CAUSAL_LM")
    content = (folder / WEIGHTS).read_bytes()
    size = int.from_bytes(content[:8], "little") + 8
    data = bytes(i % 251 for i in range(len(content) - size))  # different in every tensor
    (folder / WEIGHTS).write_bytes(content[:size] + data)
    return folder


def contents(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return type, shape and bytes of every tensor."""
    data = (folder / WEIGHTS).read_bytes()
    tensors = Adapter.read(folder).tensors.items()
    return {name: (info.dtype, info.shape, data[info.start : info.end]) for name, info in tensors}


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("defect", sick.NAMES)
def test_names_are_repaired_and_bytes_stay(adapter: Path, defect: str) -> None:
    healthy = contents(adapter)
    sick.NAMES[defect](adapter)
    before = files(adapter)
    assert contents(adapter).keys() != healthy.keys()
    assert contents(repair_adapter(adapter)) == healthy
    assert files(adapter) == before, "the original must not change"


@pytest.mark.parametrize(
    "spoil",
    [sick.byte_order_mark, sick.utf16, sick.linked_weights, sick.sharded, sick.whole_state_dict],
    ids=lambda spoil: spoil.__name__,
)
def test_files_are_repaired(adapter: Path, spoil: sick.Spoil) -> None:
    healthy, config = contents(adapter), json.loads((adapter / CONFIG).read_text())
    spoil(adapter)
    repaired = repair_adapter(adapter, adapter.parent / "repaired")
    assert contents(repaired) == healthy
    assert json.loads((repaired / CONFIG).read_text(encoding="utf-8")) == config
    assert not (repaired / WEIGHTS).is_symlink()


@pytest.mark.parametrize("value", [None, ..., "SEQ_CLS", "causal_lm"])
def test_task_type_is_set_and_the_rest_of_the_configuration_keeps_its_bytes(
    adapter: Path, value: object
) -> None:
    sick.edit_config(adapter, task_type=value, peft_type="lora" if value is None else "LORA")
    text = (adapter / CONFIG).read_text()
    (adapter / CONFIG).write_bytes(text.replace('"r": 8', '"r" : 8').replace("\n", "\r\n").encode())
    repaired = (repair_adapter(adapter) / CONFIG).read_bytes()
    assert json.loads(repaired) == {**json.loads(text), "task_type": "CAUSAL_LM", "peft_type": "LORA"}
    assert b'"r" : 8' in repaired
    assert repaired.count(b"\n") == repaired.count(b"\r\n")


def test_classifier_keeps_its_task_type(adapter: Path) -> None:
    sick.classification_head(adapter)
    assert json.loads((repair_adapter(adapter) / CONFIG).read_text())["task_type"] == "SEQ_CLS"


def test_tokenizer_and_golden_prompts_are_copied_and_training_files_are_not(adapter: Path) -> None:
    (adapter / "tokenizer_config.json").write_bytes(b'\xef\xbb\xbf{"eos_token": "</s>"}')
    (adapter / "golden.jsonl").write_text("{}\n")
    (adapter / "optimizer.pt").write_bytes(b"x")
    repaired = files(repair_adapter(adapter))
    assert sorted(repaired) == [CONFIG, WEIGHTS, "golden.jsonl", "tokenizer_config.json"]
    assert repaired["tokenizer_config.json"] == b'{"eos_token": "</s>"}'


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (sick.two_adapters, "two adapters"),
        (sick.truncated, "truncated"),
        (sick.git_lfs_pointer, "git-lfs"),
        (sick.forty_bytes, "no tensors"),
        (sick.mlx, "MLX"),
        (sick.gguf, "GGUF"),
        (sick.kohya, "image model"),
        (lambda folder: (folder / CONFIG).write_text("{"), "line 1"),
        (lambda folder: (sick.sharded(folder), next(folder.glob("*00002-of*")).unlink()), "1 of 2"),
    ],
)
def test_what_cannot_be_repaired_is_refused_and_leaves_nothing(
    adapter: Path, spoil: sick.Spoil, text: str
) -> None:
    spoil(adapter)
    with pytest.raises(InvalidAdapter, match=text) as caught:
        repair_adapter(adapter)
    assert caught.value.next_step
    assert [path.name for path in adapter.parent.iterdir()] == [adapter.name]


def test_nothing_is_overwritten(adapter: Path) -> None:
    target = adapter.parent / "taken"
    target.mkdir()
    for folder in (target, adapter):
        with pytest.raises(InvalidAdapter, match="exists already"):
            repair_adapter(adapter, folder)
    assert not list(target.iterdir())


def test_copy_that_cannot_be_written_is_an_error_with_the_folder(adapter: Path) -> None:
    (adapter.parent / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        repair_adapter(adapter, adapter.parent / "file" / "copy")


def test_offered_line_runs_without_torch(adapter: Path) -> None:
    sick.NAMES["default adapter"](adapter)
    program = f"{repair_command(adapter)}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
    assert Adapter.read(adapter.with_name("my adapter-repaired")).tensors.keys() == SHAPES.keys()


def test_peft_reads_a_copy_only_if_there_is_a_byte_order_mark(adapter: Path) -> None:
    with loadable_folder(Adapter.read(adapter)) as folder:
        assert folder == adapter
    sick.byte_order_mark(adapter)
    with loadable_folder(Adapter.read(adapter)) as folder:
        assert contents(folder) == contents(adapter)
        assert json.loads((folder / CONFIG).read_text(encoding="utf-8"))["r"] == 8
    assert not folder.exists()


@pytest.mark.parametrize(
    "name",
    [
        f"{Q}.lora_A.weight",
        f"{Q}.lora_B.bias",
        f"{Q}.lora_magnitude_vector",
        f"{Q}.base_layer.bias",
        f"{P}model.embed_tokens.lora_embedding_A",
        f"{P}model.embed_tokens.base_layer.weight",
        f"{P}model.embed_tokens.token_adapter.trainable_tokens_delta",
        f"{P}lm_head.weight",
        f"{P}model.layers.0.mlp.experts.base_layer.lora_A.weight",
    ],
)
def test_names_that_peft_writes_are_kept_and_restored_from_a_state_dictionary(name: str) -> None:
    assert repaired_key(name) == (repaired_key(name).__class__)(name, ())
    for part in ("lora_A", "lora_B", "lora_magnitude_vector", "lora_embedding_A", "trainable_tokens_delta"):
        head, found, tail = name.partition(part)
        if found:
            assert repaired_key(f"{head}{part}.tone{tail}").name == name


def test_module_saved_under_the_adapters_name() -> None:
    saved = repaired_key(f"_orig_mod.{P}lm_head.modules_to_save.default.weight")
    assert saved.name == f"{P}lm_head.weight"
    assert saved.defects == ("_orig_mod.", ".modules_to_save.default")


def test_encoder_and_task_head_are_no_causal_language_model() -> None:
    lora = "lora_A.weight"
    assert fits_causal_lm([f"{P}model.layers.0.q_proj.{lora}"])
    assert fits_causal_lm([f"{P}model.decoder.layers.0.q_proj.{lora}"])
    assert not fits_causal_lm([f"{P}encoder.block.0.layer.0.SelfAttention.q.{lora}"])
    assert not fits_causal_lm([f"{P}model.layers.0.q_proj.{lora}", f"{P}score.weight"])
    assert not fits_causal_lm([f"{P}lm_head.weight"])
