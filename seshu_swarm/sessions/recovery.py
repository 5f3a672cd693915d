"""From which position, with which states, a lost range of blocks goes on. Pure.

Parts take snapshots at the same positions, so that for some position the states of all blocks are at
hand. Neighbours that are lost together need one position for both: the second could not be fed what the
first had computed in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

from seshu_swarm.sessions.messages import S, Snapshot
from seshu_swarm.spans import Span


class Saved(Generic[S]):
    """Snapshots by position and block; position 0 needs none."""

    def __init__(
        self, span: Span, position: int = 0, blocks: Mapping[int, S] | None = None
    ) -> None:
        self._span = span
        self._blocks: dict[int, dict[int, S]] = {position: dict(blocks or {})}
        self._complete = position

    @property
    def complete(self) -> int:
        """The newest position at which every block's state is safe: nothing older is needed."""
        return self._complete

    def add(self, snapshot: Snapshot[S]) -> bool:
        """Whether `complete` has moved on; snapshots from before it are passed over."""
        if snapshot.position <= self._complete:
            return False
        known = self._blocks.setdefault(snapshot.position, {})
        known.update({block: s for block, s in snapshot.blocks.items() if block in self._span})
        if len(known) < self._span.length:
            return False
        self._complete = snapshot.position
        self._blocks = {p: blocks for p, blocks in self._blocks.items() if p >= self._complete}
        return True

    def newest(self, span: Span) -> tuple[int, Mapping[int, S] | None]:
        """The newest position with states of all these blocks, and the states: none at 0."""
        for position in sorted(self._blocks, reverse=True):
            found = {block: s for block, s in self._blocks[position].items() if block in span}
            if len(found) == span.length:
                return position, found
        return 0, None
