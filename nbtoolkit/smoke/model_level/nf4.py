"""Round weights through NF4, the 4-bit data type of QLoRA, on any device and without bitsandbytes.

NF4 maps each block of 64 weights, divided by its largest absolute value, to the nearest of 16 quantiles of
the normal distribution (Dettmers et al., 2023, https://arxiv.org/abs/2305.14314, appendix E).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 64
CODE = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The 16 values of the data type."""
_BLOCKS_AT_ONCE = 1 << 16


def round_to_nf4(weight: Tensor) -> Tensor:
    """Return the values that a weight has after 4-bit quantization in blocks of 64, in its own dtype."""
    flat = weight.detach().reshape(-1)
    padded = nn.functional.pad(flat, (0, -len(flat) % BLOCK)).reshape(-1, BLOCK)
    code = torch.tensor(CODE, device=weight.device)
    between = (code[1:] + code[:-1]) / 2
    rounded = torch.empty_like(padded)
    for first in range(0, len(padded), _BLOCKS_AT_ONCE):  # bounds the float32 copies
        blocks = padded[first : first + _BLOCKS_AT_ONCE].float()
        largest = blocks.abs().amax(dim=1, keepdim=True)
        nearest = torch.bucketize(blocks / largest.clamp(min=torch.finfo(torch.float32).tiny), between)
        rounded[first : first + _BLOCKS_AT_ONCE] = (code[nearest] * largest).to(weight.dtype)
    return rounded.reshape(-1)[: len(flat)].reshape(weight.shape)


def round_linear_layers(model: Any) -> int:
    """Round every linear layer of the base in place, and return their number.

    As transformers quantizes: the output layer, embeddings and norms keep their precision. An adapter's own
    matrices are not part of the base.
    """
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    skipped = {id(output), id(getattr(output, "base_layer", output))}
    count = 0
    with torch.no_grad():
        for path, module in model.named_modules():
            if not isinstance(module, nn.Linear | Conv1D) or id(module) in skipped:
                continue
            if ".lora_" in f".{path}" or ".modules_to_save." in path or not module.weight.is_floating_point():
                continue
            weight = module.weight
            transposed = isinstance(module, Conv1D)  # bitsandbytes gets its transpose
            rounded = round_to_nf4(weight.T if transposed else weight)
            weight.copy_(rounded.T if transposed else rounded)
            count += 1
    return count
