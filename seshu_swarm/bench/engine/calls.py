"""A training step, a prefill and a decoding step of any engine, as functions to time.

Shapes: B batch, L length, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from seshu_swarm.bench.engine.engines import Engine
from seshu_swarm.bench.engine.measuring import Call
from seshu_swarm.bench.engine.sizes import Workload


def random_ids(work: Workload) -> Tensor:
    """Token ids (batch, length_tokens); their values do not change the time."""
    return torch.randint(work.shape.vocab_size, (work.batch, work.length_tokens))


def training_step(engine: Engine) -> Callable[[Tensor], None]:
    """Forward, loss of the next token, backward and AdamW, on ids (batch, length)."""
    optimizer = torch.optim.AdamW(engine.model.parameters(), fused=True)

    def step(ids_BL: Tensor) -> None:
        with engine.running():
            predicted_BLV = engine.logits(ids_BL)[:, :-1]
            loss = functional.cross_entropy(predicted_BLV.flatten(0, 1), ids_BL[:, 1:].flatten())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()

    return step


def prefill(engine: Engine, ids_BL: Tensor) -> Call:
    """Absorb the ids from nothing."""

    @torch.inference_mode()
    def call() -> None:
        with engine.running():
            engine.prefill(ids_BL)

    return call


def decode(engine: Engine, ids_BL: Tensor) -> tuple[Call, object]:
    """One more token after the ids, the same each time, so that the past keeps its length; the past."""
    with torch.inference_mode(), engine.running():
        _, past = engine.prefill(ids_BL)

    @torch.inference_mode()
    def call() -> None:
        with engine.running():
            engine.step(ids_BL[:, -1], past)

    return call, past
