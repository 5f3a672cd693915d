"""The states of every block between two calls of the transformers class; of constant size.

What transformers' generation asks of a cache and no more: it may be reordered, repeated, selected
from and reset. A call replaces the tensors and never writes into them, so that autograd and the
holders of older ones are safe. Knows no positions: a recurrence has none.

Shapes: B batch, D d_inner, N d_state, P d_conv - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from seshu_swarm.errors import UsageError

# conv_BDP and ssm_BDN of one block; none before the first token, which means zeros.
BlockState = tuple[Tensor | None, Tensor | None]


class RecurrentCache:
    """One pair of states for each block. A `copy.copy` keeps a prefix for another continuation."""

    # generate() asks: the tensors have no fixed address, so there is nothing to compile for.
    is_compileable: ClassVar[bool] = False

    def __init__(self, num_blocks: int) -> None:
        self._blocks: list[BlockState] = [(None, None)] * num_blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, block_index: int) -> BlockState:
        return self._blocks[block_index]

    @property
    def batch(self) -> int | None:
        """Rows of the states; None before the first token."""
        conv = self._blocks[0][0]
        return None if conv is None else conv.shape[0]

    @property
    def num_bytes(self) -> int:
        """Memory of all states."""
        return sum(t.nbytes for block in self._blocks for t in block if t is not None)

    def check(self, *, num_blocks: int, batch: int) -> None:
        """Raises UsageError unless the next call of that model with so many rows may continue it."""
        if len(self) != num_blocks:
            raise UsageError(f"a cache of {len(self)} blocks", rule=f"the model has {num_blocks}")
        if self.batch not in (None, batch):
            raise UsageError(
                f"a cache of {self.batch} rows",
                rule=f"the input has {batch}",
                way_out="cache.batch_repeat_interleave(n) gives every row n continuations",
            )

    def replace(self, blocks: list[BlockState]) -> None:
        """All states after a call."""
        self._blocks = blocks

    def reset(self) -> None:
        """As before the first token."""
        self._blocks = [(None, None)] * len(self)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row b becomes the former row beam_idx[b] (int64)."""
        self._each(lambda state: state.index_select(0, beam_idx.to(state.device)))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Only these rows (int64), in this order."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row `repeats` times, one after the other."""
        self._each(lambda state: state.repeat_interleave(repeats, dim=0))

    def _each(self, change: Callable[[Tensor], Tensor]) -> None:
        self._blocks = [
            (None if conv is None else change(conv), None if ssm is None else change(ssm))
            for conv, ssm in self._blocks
        ]
