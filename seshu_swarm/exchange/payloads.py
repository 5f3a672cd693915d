"""Hidden states and recurrent states as the session protocol handles them.

Shapes: T tokens, M d_model; states as in `mamba.state`, batch 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.spans import Span

# conv (1, d_inner, d_conv - 1) and ssm (1, d_inner, d_state) of one block.
BlockState = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Hidden:
    """Tokens of the residual stream (1, T, M), and the seconds that parts spent computing them."""

    tensor: Tensor
    seconds: float = 0.0

    @property
    def count(self) -> int:
        return self.tensor.shape[1]

    def part(self, start: int, end: int) -> Self:
        return type(self)(self.tensor[:, start:end], self.seconds)

    def followed_by(self, others: Sequence[Self]) -> Self:
        tensors = [self.tensor, *(other.tensor for other in others)]
        seconds = self.seconds + sum(other.seconds for other in others)
        return type(self)(torch.cat(tensors, dim=1), seconds)


class BlockStates(Mapping[int, BlockState]):
    """A span's state by block, without copies."""

    def __init__(self, state: RecurrentState) -> None:
        self.state = state

    def __getitem__(self, block: int) -> BlockState:
        index = block - self.state.span.start
        if block not in self.state.span:
            raise KeyError(block)
        return self.state.conv[index], self.state.ssm[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self.state.span)

    def __len__(self) -> int:
        return self.state.span.length


def together(blocks: Mapping[int, BlockState], span: Span, position: int) -> RecurrentState:
    """The state of a span from those of its blocks; a copy."""
    if isinstance(blocks, BlockStates) and blocks.state.span == span:
        return blocks.state
    conv, ssm = zip(*(blocks[block] for block in span), strict=True)
    return RecurrentState(torch.stack(conv), torch.stack(ssm), span, (position,))
