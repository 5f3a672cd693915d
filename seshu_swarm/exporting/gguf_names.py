"""Names, shapes and numbers of a model's tensors as llama.cpp's `mamba` loader has them.

Projections stay as they are, the convolution loses its middle axis, `ssm_a` = -exp(A_log), and a
tied head is left out: the loader takes the embedding then. Knows no file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seshu_swarm.mamba.shape import MambaShape, block_prefix

FLOAT_BYTES = 4
BLOCK_NAMES = {
    "norm.weight": "attn_norm.weight",
    "mixer.in_proj.weight": "ssm_in.weight",
    "mixer.conv1d.weight": "ssm_conv1d.weight",
    "mixer.conv1d.bias": "ssm_conv1d.bias",
    "mixer.x_proj.weight": "ssm_x.weight",
    "mixer.dt_proj.weight": "ssm_dt.weight",
    "mixer.dt_proj.bias": "ssm_dt.bias",
    "mixer.A_log": "ssm_a",
    "mixer.D": "ssm_d",
    "mixer.out_proj.weight": "ssm_out.weight",
}
ENDS_NAMES = {
    "backbone.embeddings.weight": "token_embd.weight",
    "backbone.norm_f.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


@dataclass(frozen=True)
class Renamed:
    """One tensor: its name and shape here, and there."""

    source: str
    source_shape: tuple[int, ...]
    name: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return FLOAT_BYTES * math.prod(self.shape)


def renamed(shape: MambaShape) -> Iterator[Renamed]:
    """Every tensor of a model, in the order of the file: the ends, then block by block."""
    for source, size in shape.ends_tensors().items():
        yield Renamed(source, size, ENDS_NAMES[source], size)
    for index in range(shape.num_blocks):
        for inside, size in shape.block_tensors().items():
            is_conv = inside == "mixer.conv1d.weight"
            there = (size[0], size[2]) if is_conv else size
            name = f"blk.{index}.{BLOCK_NAMES[inside]}"
            yield Renamed(block_prefix(index) + inside, size, name, there)


def converted(tensor: Renamed, values: Tensor) -> Tensor:
    """The numbers as llama.cpp has them, in the shape that they have there."""
    if tensor.source.endswith("A_log"):
        return -torch.exp(values)
    return values.reshape(tensor.shape)
