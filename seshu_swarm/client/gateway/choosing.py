"""The next token of a choice: temperature and top-p.

Shapes: V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seshu_swarm.client.gateway.wanted import Wanted
from seshu_swarm.client.remote.sampling import Sampler


def chooser(wanted: Wanted) -> Callable[[Tensor], int]:
    """Greedy at temperature 0; repeatable by the seed otherwise."""
    sampler = Sampler(wanted.temperature, wanted.seed)
    if wanted.temperature == 0 or wanted.top_p == 1:
        return sampler
    return lambda logits_V: sampler(nucleus(logits_V, wanted.temperature, wanted.top_p))


def nucleus(logits_V: Tensor, temperature: float, top_p: float) -> Tensor:
    """The logits, -inf outside the smallest set of likeliest tokens with probability >= top_p.

    At least the likeliest one stays (arXiv:1904.09751 §3.1).
    """
    sorted_V, order_V = (logits_V.double() / temperature).sort(descending=True)
    probabilities_V = torch.softmax(sorted_V, dim=-1)
    before_V = probabilities_V.cumsum(dim=-1) - probabilities_V
    is_out_V = before_V >= top_p
    is_out_V[0] = False
    return logits_V.index_fill(0, order_V[is_out_V], float("-inf"))
