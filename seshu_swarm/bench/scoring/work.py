"""What is scored: a checkpoint of random weights, random windows, and adapters as `bench merge` has.

What the numbers are changes neither time nor memory.
"""

from __future__ import annotations

from pathlib import Path

import torch

from seshu_swarm import checkpoints
from seshu_swarm.bench.merge.sizes import Sizes
from seshu_swarm.coordinator.blind.held_out import MAX_CONTEXT_TOKENS, MAX_WINDOW_BYTES
from seshu_swarm.coordinator.blind.scoring import HeldOut
from seshu_swarm.data.windows import Window
from seshu_swarm.mamba.whole import WholeModel

FIRST_BYTE_ID = 3  # after ByT5's padding, end and unknown
LANGUAGE = "hi"


def write_checkpoint(folder: Path, sizes: Sizes) -> int:
    """Write a model of these sizes; the bytes of its weights."""
    torch.manual_seed(sizes.seed)
    tensors = WholeModel(sizes.shape).checkpoint_tensors()
    checkpoints.save_checkpoint(folder, shape=sizes.shape, tensors=tensors, about={}, card="")
    return sum(tensor.nbytes for tensor in tensors.values())


def held_out(num_windows: int, *, seed: int) -> HeldOut:
    """Windows as long as the coordinator cuts them: 128 tokens of context, 512 that are scored."""
    generator = torch.Generator().manual_seed(seed)
    length = MAX_CONTEXT_TOKENS + MAX_WINDOW_BYTES
    ids = torch.randint(
        FIRST_BYTE_ID, FIRST_BYTE_ID + 256, (num_windows, length), generator=generator
    )
    windows = [
        Window(f"document {number}", tuple(row), MAX_CONTEXT_TOKENS, MAX_WINDOW_BYTES)
        for number, row in enumerate(ids.tolist())
    ]
    return HeldOut(rows={LANGUAGE: windows}, text={})
