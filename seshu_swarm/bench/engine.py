"""Training speed of the engine: whole steps of a small model, forward, backward and AdamW.

The model is the one of the design's figures: 256 wide, 4 blocks, batches of 4 x 256 tokens, float32.
The time is the best of several steps, because other programs only ever make a step slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

SHAPE = MambaShape(d_model=256, num_blocks=4)
BATCH, LENGTH_TOKENS = 4, 256
REPEATS = 7


def run(
    *, shape: MambaShape = SHAPE, repeats: int = REPEATS, against_transformers: bool = True
) -> dict[str, float]:
    """Measure, print a table, return `train_tokens_per_second` and, where asked for,
    `train_speedup_vs_transformers` (one step of it: on a CPU it takes most of a minute)."""
    ids_BL = torch.randint(0, shape.vocab_size, (BATCH, LENGTH_TOKENS))
    seconds = {"seshu_swarm, chunked torch": _ours(shape, ids_BL, repeats)}
    if against_transformers:
        seconds["transformers"] = _transformers(shape, ids_BL)
    _show(seconds, ids_BL.numel())
    ours, *others = seconds.values()
    results = {"train_tokens_per_second": ids_BL.numel() / ours}
    if others:
        results["train_speedup_vs_transformers"] = others[0] / ours
    return results


def _ours(shape: MambaShape, ids_BL: Tensor, repeats: int) -> float:
    model = WholeModel(shape)
    step = _train_step(model, model.logits, ids_BL)
    step()
    return min(_timed(step) for _ in range(repeats))


def _transformers(shape: MambaShape, ids_BL: Tensor) -> float:
    """One step, without a warm-up: its cost is in the arithmetic, not in the first call."""
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig.from_dict(shape.to_config())).train()
    return _timed(_train_step(model, lambda ids: model(ids).logits, ids_BL))


def _train_step(
    model: nn.Module, logits: Callable[[Tensor], Tensor], ids_BL: Tensor
) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        predicted_BLV = logits(ids_BL)[:, :-1]
        loss = functional.cross_entropy(predicted_BLV.flatten(0, 1), ids_BL[:, 1:].flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def _timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _show(seconds: dict[str, float], num_tokens: int) -> None:
    table = Table("engine", "step, ms", "tokens/s", title="training step")
    for name, value in seconds.items():
        table.add_row(name, f"{1e3 * value:.0f}", f"{num_tokens / value:.0f}")
    Console().print(table)
