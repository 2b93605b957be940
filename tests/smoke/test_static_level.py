"""The static level: every bad adapter fails its check with a remedy, and torch is not imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbtoolkit import SmokeReport, SmokeSettings, Workspace, smoke_test
from nbtoolkit.serving import content_hash
from nbtoolkit.smoke.check import Check
from tests.support import sick_adapters as sick
from tests.support.sick_adapters import CONFIG, WEIGHTS, Spoil, config_with, edit_config, tensors, write
from tests.support.tiny_models import tiny_adapter, tiny_base


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama, a GPT-2 and an adapter for each."""
    root = tmp_path_factory.mktemp("smoke-static")
    for kind in ("llama", "gpt2"):
        tiny_base(root / kind, kind)
        tiny_adapter(root / f"{kind}-adapter", root / kind)
    tiny_base(root / "wide", "llama", hidden=48)
    tiny_base(root / "shallow", "llama", layers=2)
    return root


@pytest.fixture
def workspace(workspace_root: Path, originals: Path) -> Workspace:
    shutil.copytree(originals / "llama-adapter", workspace_root / "adapter")
    return Workspace(workspace_root)


def static(workspace: Workspace, base: Path, adapter: str = "adapter") -> SmokeReport:
    settings = SmokeSettings(adapter=adapter, base=str(base), levels=("static",), reuse=False)
    return smoke_test(settings, workspace=workspace)


def result_of(report: SmokeReport, id: str) -> Check:
    return next(one for one in report.checks if one.id == id and one.level == "static")


BAD: list[tuple[str, Spoil, str, str]] = [
    ("missing config", lambda f: (f / CONFIG).unlink(), "A1", CONFIG),
    ("broken config", lambda f: (f / CONFIG).write_text("{"), "A1", CONFIG),
    ("UTF-16 config", sick.utf16, "A1", "UTF-16"),
    ("no weights", lambda f: (f / WEIGHTS).unlink(), "A1", "no adapter_model.safetensors"),
    ("truncated", sick.truncated, "A1", "truncated"),
    ("40 bytes", sick.forty_bytes, "A1", "40 bytes"),
    ("git-lfs pointer", sick.git_lfs_pointer, "A1", "git-lfs"),
    ("sharded", sick.sharded, "A1", "sharded"),
    ("broken link", lambda f: (f / "chat_template.jinja").symlink_to("moved"), "A1", "broken link, to moved"),
    ("folder for a file", sick.folder_for_weights, "A1", "is a folder, not a file"),
    ("weights are a link", sick.linked_weights, "A1", "link that leaves the folder"),
    ("MLX", sick.mlx, "A1", "MLX"),
    ("kohya", sick.kohya, "A1", "image model"),
    ("diffusers", sick.diffusers, "A1", "image model"),
    ("GGUF", sick.gguf, "A1", "GGUF"),
    ("torchtune", sick.torchtune, "A1", "torchtune"),
    ("whole model", sick.whole_model, "A1", "whole model"),
    ("only a pickle", sick.only_pickle, "A2", "adapter_model.bin"),
    ("not LoRA", config_with(peft_type="IA3"), "A3", "'IA3'"),
    ("no peft_type", config_with(peft_type=...), "A3", "peft_type is None"),
    ("classifier", sick.classification_head, "A3", "'SEQ_CLS'"),
    ("misspelt task", config_with(task_type="causal_lm"), "A3", "'causal_lm'"),
    ("rank 0", config_with(r=0), "A3", "r is 0"),
    ("rank pattern 0", config_with(rank_pattern={"q_proj": 0}), "A3", "rank 0"),
    ("unknown key", config_with(use_telepathy=True), "A3", "use_telepathy"),
    ("misspelt key", config_with(lora_alfa=2), "A3", "did you mean lora_alpha"),
    ("merged projections", config_with(enable_lora=[True, False]), "A3", "enable_lora"),
    ("wrong type", config_with(lora_alpha="16"), "A3", "lora_alpha is string"),
    ("compiled", sick.NAMES["torch.compile"], "A4", "_orig_mod."),
    ("parallel", sick.NAMES["DistributedDataParallel"], "A4", "module."),
    ("fully sharded", sick.NAMES["FSDP"], "A4", "_fsdp_wrapped_module."),
    ("checkpointed", sick.NAMES["activation checkpointing"], "A4", "_checkpoint_wrapped_module."),
    ("wrapped twice", sick.NAMES["wrapped by peft twice"], "A4", "base_model.model.base_model.model."),
    ("wrapped", sick.NAMES["a module around peft's"], "A4", "policy. (left by a wrapper around peft's)"),
    ("no prefix", sick.NAMES["without peft's prefix"], "A4", "no base_model.model."),
    ("named", sick.NAMES["named adapter"], "A4", ".tone"),
    ("state dict", sick.whole_state_dict, "A4", "a copy of a base weight"),
    ("two ranks in a pair", sick.other_rank, "A4", "rank 8 in A but 4 in B"),
    ("one half", sick.one_half, "A4", "only lora_A"),
    ("NaN", sick.poisoned(float("nan")), "A6", "NaN"),
    ("infinity", sick.poisoned(float("-inf")), "A6", "infinite"),
    ("all-zero B", sick.zero("B"), "A6", "zero in all 12"),
    ("all-zero A", sick.zero("A"), "A6", "zero in all 12"),
    ("integers", sick.as_type("int8"), "A6", "I8"),
    ("float64", sick.as_type("float64"), "A6", "F64"),
    ("no pair", sick.no_pair, "A6", "none of the 1 tensors"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "id", "text"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_adapter_fails_its_check_with_a_remedy(
    workspace: Workspace, originals: Path, spoil: Spoil, id: str, text: str
) -> None:
    spoil(workspace.root / "adapter")
    report = static(workspace, originals / "llama")
    check = result_of(report, id)
    assert check.verdict == "fail"
    assert text in check.summary
    assert check.remedy
    assert id in str(report).splitlines()[0]
    assert report.failed[0].id == id


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_good_adapter_passes_every_static_check(workspace: Workspace, originals: Path, kind: str) -> None:
    report = static(workspace, originals / kind, str(originals / f"{kind}-adapter"))
    passed = dict.fromkeys(["A1", "A2", "A3", "A4", "A5", "A6", "A7"], "pass")
    assert {one.id: one.verdict for one in report.checks} == {**passed, "A8": "skipped"}
    assert not report.green, "a report without model and contract level must not be green"


HEALTHY: list[tuple[str, Spoil, str, str]] = [
    ("no task_type", config_with(task_type=None), "A3", "warn"),
    ("wrong task_type", config_with(task_type="SEQ_CLS"), "A3", "warn"),
    ("trainer", config_with(save_steps=50, packing=True, eval_loss=1.2, trl_version="1"), "A3", "pass"),
    ("ms-swift", config_with(lora_dtype="bfloat16", lorap_lr_ratio=16.0, lorap_emb_lr=1e-6), "A3", "pass"),
    ("peft 0.2", config_with(enable_lora=None, merge_weights=False), "A3", "pass"),
    ("notes", config_with(_comment="epoch 3", created_at=1730000000.5), "A3", "pass"),
    ("code that is never sent", sick.foreign_files, "A2", "pass"),
    ("auto_map of the tokenizer", sick.tokenizer_auto_map, "A2", "warn"),
    ("byte order mark", sick.byte_order_mark, "A1", "warn"),
    ("float16", sick.as_type("float16"), "A6", "pass"),
    ("other base", config_with(base_model_name_or_path="Qwen/Qwen2.5-0.5B"), "A4", "warn"),
    ("4-bit base", config_with(base_model_name_or_path="unsloth/llama-bnb-4bit"), "A4", "pass"),
]


@pytest.mark.parametrize(
    ("change", "id", "verdict"), [(c, id, v) for _, c, id, v in HEALTHY], ids=[row[0] for row in HEALTHY]
)
def test_adapter_that_can_be_served_does_not_fail(
    workspace: Workspace, originals: Path, change: Spoil, id: str, verdict: str
) -> None:
    change(workspace.root / "adapter")
    report = static(workspace, originals / "llama")
    found = {one.id: one.verdict for one in report.checks}
    assert found == {**dict.fromkeys(found, "pass"), "A8": "skipped", id: verdict}
    assert verdict == "pass" or result_of(report, id).remedy


def test_file_that_cannot_be_read_is_a_finding_of_a1(
    workspace: Workspace, originals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(content_hash, "file_sha256", refused)
    report = static(workspace, originals / "llama")
    found = result_of(report, "A1")
    assert (found.verdict, "json cannot be read: Permission denied" in found.summary) == ("fail", True)
    assert (report.adapter_sha256, result_of(report, "A6").verdict) == ("", "pass")


def test_other_base_is_named_with_the_given_one(workspace: Workspace, originals: Path) -> None:
    edit_config(workspace.root / "adapter", base_model_name_or_path="Qwen/Qwen2.5-0.5B")
    summary = result_of(static(workspace, originals / "llama"), "A4").summary
    assert "Qwen/Qwen2.5-0.5B" in summary
    assert "llama" in summary


@pytest.mark.parametrize("defect", ["default adapter", "wrapped by peft twice", "FSDP"])
def test_numbers_are_checked_under_names_that_peft_does_not_load(
    workspace: Workspace, originals: Path, defect: str
) -> None:
    folder = workspace.root / "adapter"
    sick.zero("B")(folder)
    sick.NAMES[defect](folder)
    assert "zero in all 12" in result_of(static(workspace, originals / "llama"), "A6").summary


def test_remedy_for_names_repairs_the_adapter(workspace: Workspace, originals: Path) -> None:
    folder = workspace.root / "adapter"
    sick.with_adapter_name("tone")(folder)
    line = result_of(static(workspace, originals / "llama"), "A4").remedy.partition(": ")[2]
    exec(line, {})
    assert not static(workspace, originals / "llama", "adapter-repaired").failed


@pytest.mark.parametrize(
    ("options", "spoil", "id", "verdict"),
    [
        ({"targets": ("q_proj", "embed_tokens")}, None, "A6", "pass"),
        ({"targets": ("q_proj", "lm_head")}, None, "A6", "pass"),
        ({"modules_to_save": ["lm_head"]}, None, "A6", "pass"),
        ({"trainable_token_indices": [1, 2]}, None, "A6", "pass"),
        ({"use_dora": True}, None, "A6", "pass"),
        ({"targets": ("embed_tokens",)}, sick.zero("embedding_A"), "A6", "fail"),
        ({"modules_to_save": ["lm_head"]}, sick.poisoned(float("nan"), "lm_head.weight"), "A6", "fail"),
        ({"trainable_token_indices": [1]}, sick.poisoned(float("inf"), "trainable_tokens"), "A6", "fail"),
        ({"use_dora": True}, sick.poisoned(float("nan"), "magnitude"), "A6", "fail"),
    ],
)
def test_numbers_of_embeddings_and_whole_modules(
    workspace: Workspace,
    originals: Path,
    options: dict[str, Any],
    spoil: Spoil | None,
    id: str,
    verdict: str,
) -> None:
    folder = tiny_adapter(workspace.root / "other", originals / "llama", **options)
    if spoil:
        spoil(folder)
    report = static(workspace, originals / "llama", "other")
    assert result_of(report, id).verdict == verdict
    assert result_of(report, "A4").verdict in ("pass", "undecided")


def test_other_shapes_are_a_wrong_base(workspace: Workspace, originals: Path) -> None:
    check = result_of(static(workspace, originals / "wide"), "A4")
    assert (check.verdict, len(check.evidence["wrong_shapes"])) == ("fail", 12)
    assert "32" in check.summary
    assert "48" in check.summary


def test_another_architecture_is_a_wrong_base_and_the_remedy_names_the_right_one(
    workspace: Workspace, originals: Path
) -> None:
    check = result_of(static(workspace, originals / "gpt2"), "A4")
    assert (check.verdict, check.evidence["matched"]) == ("fail", 0)
    assert "llama" in check.remedy


def test_missing_layers_stay_undecided_for_the_model_level(workspace: Workspace, originals: Path) -> None:
    edit_config(workspace.root / "adapter", base_model_name_or_path=None)
    report = static(workspace, originals / "shallow")
    assert result_of(report, "A4").verdict == "undecided"
    assert "A4 is undecided" in report.open


def test_renamed_architecture_stays_undecided(workspace: Workspace, originals: Path) -> None:
    edit_config(workspace.root / "adapter", base_model_name_or_path=None)
    shutil.copytree(originals / "gpt2", workspace.root / "moe")
    config = json.loads((workspace.root / "moe/config.json").read_text())
    (workspace.root / "moe/config.json").write_text(json.dumps({**config, "model_type": "mixtral"}))
    check = result_of(static(workspace, workspace.root / "moe"), "A4")
    assert check.verdict == "undecided"
    assert "mixtral is renamed while loading" in check.summary


def test_target_module_missing_in_the_file_is_a_warning(workspace: Workspace, originals: Path) -> None:
    edit_config(workspace.root / "adapter", target_modules=["q_proj", "v_proj", "o_proj", "k_proj"])
    check = result_of(static(workspace, originals / "llama"), "A4")
    assert (check.verdict, check.evidence["named_but_lacking"]) == ("warn", ["k_proj"])


def test_unknown_key_at_its_default_is_a_warning(workspace: Workspace, originals: Path) -> None:
    edit_config(workspace.root / "adapter", use_telepathy=False, telepathy_config=None)
    check = result_of(static(workspace, originals / "llama"), "A3")
    assert (check.verdict, check.evidence["unknown_default"]) == (
        "warn",
        ["telepathy_config", "use_telepathy"],
    )


def test_zero_in_some_modules_is_a_warning(workspace: Workspace, originals: Path) -> None:
    folder = workspace.root / "adapter"
    write(folder, {k: v * 0 if "layers.1" in k and "lora_B" in k else v for k, v in tensors(folder).items()})
    check = result_of(static(workspace, originals / "llama"), "A6")
    assert (check.verdict, len(check.evidence["zero_modules"])) == ("warn", 3)


def test_product_is_zero_if_no_rank_is_in_both_matrices(workspace: Workspace, originals: Path) -> None:
    folder = workspace.root / "adapter"
    content = tensors(folder)
    for key, value in content.items():
        if "lora_A" in key:
            value[:2] = 0
        else:
            value[:, 2:] = 0
    write(folder, content)
    assert result_of(static(workspace, originals / "llama"), "A6").verdict == "fail"


def test_bfloat16_is_read_by_its_bits(workspace: Workspace, originals: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    path = workspace.root / "adapter" / WEIGHTS
    content = {key: value.to(torch.bfloat16) for key, value in load_file(path).items()}
    save_file(content, path)
    assert result_of(static(workspace, originals / "llama"), "A6").verdict == "pass"
    next(iter(content.values()))[0, 0] = float("inf")
    save_file(content, path)
    check = result_of(static(workspace, originals / "llama"), "A6")
    assert list(check.evidence["broken"].values()) == [1]


def test_adapter_larger_than_its_base_is_a_warning(workspace: Workspace, originals: Path) -> None:
    folder = workspace.root / "adapter"
    extra = {"base_model.model.model.embed_tokens.weight": np.ones((9000, 32), np.float32)}
    write(folder, {**tensors(folder), **extra})
    check = result_of(static(workspace, originals / "llama"), "A1")
    assert check.verdict == "warn"
    assert "embed_tokens" in check.summary


def test_pickle_is_never_opened_and_converts_on_demand(workspace: Workspace, originals: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = workspace.root / "adapter"
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()
    remedy = result_of(static(workspace, originals / "llama"), "A2").remedy
    command = remedy.partition("python ")[2].split()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=Path(__file__).parents[2])
    assert not static(workspace, originals / "llama").failed


def test_pickle_that_runs_code_is_refused(workspace: Workspace) -> None:
    import torch

    from nbtoolkit.errors import InvalidAdapter
    from nbtoolkit.smoke.model_level.convert_pickle import convert

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (workspace.root / "ran",))

    folder = workspace.root / "adapter"
    (folder / WEIGHTS).unlink()
    torch.save({"x": Evil()}, folder / "adapter_model.bin")
    with pytest.raises(InvalidAdapter):
        convert(folder)
    assert not (workspace.root / "ran").exists()


def test_static_level_imports_no_torch(workspace: Workspace, originals: Path) -> None:
    program = f"""
import sys
from nbtoolkit import SmokeSettings, Workspace, smoke_test
settings = SmokeSettings(adapter="adapter", base={str(originals / "llama")!r}, levels=("static",))
assert not smoke_test(settings, workspace=Workspace({str(workspace.root)!r})).failed
print(sorted({{"torch", "transformers", "peft", "safetensors"}} & set(sys.modules)))
"""
    repo = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=repo
    )
    assert done.stdout.strip() == "[]"


def test_committed_peft_keys_equal_the_fields_of_the_installed_peft() -> None:
    from nbtoolkit.smoke.model_level.peft_fields import installed_fields
    from nbtoolkit.smoke.static.adapter_config import peft_key_table, peft_version

    version = peft_version()
    assert version in peft_key_table(), "run: python -m nbtoolkit.smoke.model_level.peft_fields"
    assert peft_key_table()[version] == json.loads(json.dumps(installed_fields()))


def test_task_types_are_those_of_the_installed_peft() -> None:
    from peft import TaskType

    from nbtoolkit.smoke.static.adapter_config import TASK_TYPES

    assert {str(one.value) for one in TaskType} == TASK_TYPES


def test_unrenamed_types_have_no_conversion_mapping_in_transformers() -> None:
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from nbtoolkit.smoke.static.base_match import UNRENAMED_TYPES

    assert [kind for kind in sorted(UNRENAMED_TYPES) if get_checkpoint_conversion_mapping(kind)] == []
