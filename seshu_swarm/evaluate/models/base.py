"""What a scored model is.

Shapes: B batch, L length, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor


class ScoredModel(Protocol):
    """A causal language model with its own ids."""

    @property
    def name(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    def before(self, prompt: str) -> list[int]:
        """Ids that a text after `prompt` comes after; at least one, also without a prompt."""
        ...

    @property
    def end_id(self) -> int | None:
        """The id that ends a text; None where there is none."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """The longest window; None where there is no limit."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without a beginning and without an end."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special ids are skipped."""
        ...

    def logits(self, ids_BL: Tensor) -> Tensor:
        """Logits of every position, (batch, length, vocab_size)."""
        ...

    def greedy(self, ids: Sequence[int]) -> Iterator[int]:
        """The likeliest next id after `ids`, and after those it has given, without an end."""
        ...
