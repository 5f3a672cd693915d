"""Spans of blocks: half-open intervals, coverage, chains, and which span to host.

Pure: knows no network, no clock and no tensors. `rng` is passed in.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from seshu_swarm.errors import UsageError


@dataclass(frozen=True, order=True)
class Span:
    """Contiguous blocks `[start, end)`, numbered globally from 0."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise UsageError(
                f"blocks {self.start}:{self.end} are not a span",
                rule="a span is START:END with 0 <= START < END",
                way_out="for example --blocks 0:2 for the first two blocks",
            )

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read `START:END`. Raises UsageError."""
        start, colon, end = text.partition(":")
        if not (colon and start.isdecimal() and end.isdecimal()):
            raise UsageError(
                f"blocks {text!r} are not a span",
                rule="a span is START:END, two whole numbers",
                way_out="for example --blocks 0:2 for the first two blocks",
            )
        return cls(int(start), int(end))

    @property
    def length(self) -> int:
        return self.end - self.start

    def __contains__(self, block_index: int) -> bool:
        return self.start <= block_index < self.end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.end))

    def __str__(self) -> str:
        return f"{self.start}:{self.end}"


def coverage(spans: Iterable[Span], num_blocks: int) -> list[int]:
    """Number of peers that host each block."""
    covered = [0] * num_blocks
    for span in spans:
        for block_index in range(span.start, min(span.end, num_blocks)):
            covered[block_index] += 1
    return covered


def choose_span(covered: Sequence[float], length: int, rng: random.Random) -> Span:
    """The window of `length` blocks with the worst coverage.

    Windows are compared by their sorted coverage (Petals, block_selection: the weakest block
    decides), so that a window around an uncovered block wins over one that is merely thin.
    Ties are broken by `rng`, lest all newcomers choose the same window.
    """
    num_blocks = len(covered)
    length = max(1, min(length, num_blocks))
    starts = range(num_blocks - length + 1)
    weakest = min(sorted(covered[start : start + length]) for start in starts)
    best = [s for s in starts if sorted(covered[s : s + length]) == weakest]
    start = rng.choice(best)
    return Span(start, start + length)
