"""The swarm's blocks as one operation of autograd: what is trained lies before or after them.

Shapes: B rows, L the longest row, M d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seshu_swarm.client.remote.gradients import RemoteBlocks

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def through_swarm(
    hidden_BLM: Tensor, blocks: RemoteBlocks, lengths: Sequence[int], run: Run
) -> Tensor:
    """The residual stream after the last block (B, L, M), 0 after a row's end.

    `run` carries a coroutine out in the loop of `blocks` and gives its result. Raises PeerError here
    and in the backward pass, and UsageError for a row that peers do not take at once.
    """
    output_BLM: Tensor = _ThroughSwarm.apply(hidden_BLM, blocks, lengths, run)
    return output_BLM


class _ThroughSwarm(torch.autograd.Function):
    """Keeps what went into every span until the graph is freed."""

    @staticmethod
    def forward(
        ctx: Any, hidden_BLM: Tensor, blocks: RemoteBlocks, lengths: Sequence[int], run: Run
    ) -> Tensor:
        sent_BLM = hidden_BLM.detach().to("cpu", torch.float32)
        output_BLM, trace = run(blocks.forward(sent_BLM, lengths))
        ctx.blocks, ctx.run = blocks, run
        ctx.trace = trace if ctx.needs_input_grad[0] else None
        result: Tensor = output_BLM.to(hidden_BLM)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BLM: Tensor) -> tuple[Tensor, None, None, None]:
        sent_BLM = gradient_BLM.to("cpu", torch.float32)
        found_BLM = ctx.run(ctx.blocks.backward(ctx.trace, sent_BLM))
        return found_BLM.to(gradient_BLM), None, None, None
