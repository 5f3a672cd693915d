"""The language of the stream GRADIENTS: a span once through, forward or backward. Pure.

There is no session: rows start from the zero state and nothing of them stays, so any replica can
answer, and answers the same again. One stream carries one pass:

    client  AskPass                Propagate (the tensors)
    peer             PassAdmitted                           Propagated

A peer says no before a tensor is sent. Tensors inside messages stay packed (`wire` checks them
against the expected shape).

Shapes: B rows, L the longest row, M d_model.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from seshu_swarm.records.fields import Count, Digest
from seshu_swarm.streams.protocol import Message

GRADIENTS = "seshu/gradients"

# Of one pass: rows × the longest row. A row is never cut: its gradient needs all of it.
MAX_PASS_TOKENS = 4_096
# Passes of one client that a peer has in hand at once.
MAX_PASSES_OF_ONE = 2

RowLength = Annotated[int, Field(ge=1, le=MAX_PASS_TOKENS)]


class AskPass(Message):
    """Through the blocks [start, end) from the zero state; backward, if `is_backward`.

    Of row b only the first lengths[b] tokens count; L is the longest.
    """

    revision: Digest
    start: Count
    end: Count
    lengths: Annotated[list[RowLength], Field(min_length=1, max_length=MAX_PASS_TOKENS)]
    is_backward: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and tokens of the longest."""
        return len(self.lengths), max(self.lengths)


class PassAdmitted(Message):
    """Its memory is kept free: send the tensors."""


class Propagate(Message):
    """`hidden` (B, L, M) goes in. `gradient` (B, L, M), backward: of some number by what comes out."""

    hidden: dict[str, Any]
    gradient: dict[str, Any] | None = None


class Propagated(Message):
    """The span's output or the gradient by its input (B, L, M), 0 after a row's end."""

    values: dict[str, Any]
    compute_seconds: Annotated[float, Field(ge=0)]
