"""Turn the demo model's GGUF file into a model folder; run as a child process, for it imports torch.

    python unpack.py MODEL.gguf FOLDER

It imports nothing of nbtoolkit, so it runs wherever the parent's interpreter runs.
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
    # A GGUF file keeps the author's working title here; a model folder has no such key.
    vars(model.config).pop("_model_name_or_path", None)
    model.save_pretrained(folder)

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    # The file names its splitting rule ("smollm") and transformers does not read the name: every digit
    # is a piece of its own, or "a  5" gets other tokens than the model was trained on.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = CONTEXT_LENGTH
    for accident_of_loading in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(accident_of_loading, None)
    tokenizer.save_pretrained(folder)

    # The weights are written through a private temporary file; they are no secret.
    mode = (folder / "config.json").stat().st_mode
    (folder / "model.safetensors").chmod(mode)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
