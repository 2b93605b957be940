"""Convert the demo model's GGUF file to a model folder; runs as a child process, as it imports torch.

    python unpack.py MODEL.gguf FOLDER

It imports nothing of nbtoolkit, so it runs in any folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

CONTEXT_LENGTH = 8192


def unpack(gguf: Path, folder: Path) -> None:
    """Write ``gguf`` to ``folder`` in bfloat16, with tokenizer, chat template and generation settings.

    Takes about half a minute and 1 GB of memory for 135 million weights.
    """
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),  # packed weights cannot be saved
        dtype=torch.bfloat16,
    )
    # The GGUF file has the author's working title here; a model folder has no such key.
    vars(model.config).pop("_model_name_or_path", None)
    model.save_pretrained(folder)

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    # The file names its pre-tokenizer ("smollm"), which transformers ignores: every digit must be a piece
    # of its own, or "a  5" gets other tokens than in the training.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = CONTEXT_LENGTH
    for loading_option in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(loading_option, None)
    tokenizer.save_pretrained(folder)

    # The weights are written to a private temporary file first; they are not secret.
    mode = (folder / "config.json").stat().st_mode
    (folder / "model.safetensors").chmod(mode)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
