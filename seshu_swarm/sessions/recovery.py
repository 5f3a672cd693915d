"""The position from which lost blocks go on, and their states there. Pure.

Parts take snapshots at the same positions. One position counts: the newest that every block **and** the
client's outputs have passed. All logs begin there or before, and nobody is behind it, so whatever is
lost can start there and be fed. A newer state of some blocks alone would not do: the part put there
could not send again what its next part still lacks, or will lack when it is lost in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

from seshu_swarm.sessions.messages import S
from seshu_swarm.spans import Span


class Saved(Generic[S]):
    """`blocks` after `position` tokens, none before the first; and states of later positions that not
    all blocks have reached yet."""

    def __init__(
        self, span: Span, position: int = 0, blocks: Mapping[int, S] | None = None
    ) -> None:
        self.position, self.blocks = position, blocks
        self._span = span
        self._later: dict[int, dict[int, S]] = {}

    def add(self, position: int, blocks: Mapping[int, S]) -> None:
        """What is not later than `position` is passed over."""
        if position > self.position:
            self._later.setdefault(position, {}).update(blocks)

    def forget(self, span: Span) -> None:
        """These blocks begin again from `position`: what they had reached later counts no more."""
        for blocks in self._later.values():
            for block in span:
                blocks.pop(block, None)

    def settle(self, limit: int) -> bool:
        """Move `position` on as far as every block is there, to `limit` at most. Whether it moved."""
        whole = [p for p, b in self._later.items() if p <= limit and len(b) == self._span.length]
        if not whole:
            return False
        self.position = max(whole)
        self.blocks = self._later[self.position]
        self._later = {p: blocks for p, blocks in self._later.items() if p > self.position}
        return True

    def of(self, span: Span) -> Mapping[int, S] | None:
        """The states of these blocks at `position`."""
        return None if self.blocks is None else {block: self.blocks[block] for block in span}
