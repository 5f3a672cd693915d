"""A model of whole numbers: as the real one, it has one state for each block and is not idempotent.

A token that is lost, doubled or out of order changes every later state and every later output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from seshu_swarm.spans import Span

MASK = (1 << 61) - 1


@dataclass(frozen=True)
class Tokens:
    """The payload of a piece."""

    values: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.values)

    def part(self, start: int, end: int) -> Self:
        return type(self)(self.values[start:end])

    def followed_by(self, others: Sequence[Self]) -> Self:
        return type(self)(sum((other.values for other in others), self.values))


def compute(
    state: Mapping[int, int] | None, span: Span, tokens: Tokens
) -> tuple[dict[int, int], Tokens]:
    """Blocks over tokens: the state after them and the outputs."""
    after = {block: 0 for block in span} if state is None else dict(state)
    outputs = []
    for value in tokens.values:
        for block in span:
            after[block] = (after[block] * 1_000_003 + value + block + 1) & MASK
            value = after[block] ^ (after[block] >> 23)
        outputs.append(value)
    return after, Tokens(tuple(outputs))


class Whole:
    """The reference: one machine with all blocks, token after token. Remembers everything."""

    def __init__(self, span: Span, inputs: Iterable[int] = ()) -> None:
        self.span = span
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.states: list[dict[int, int] | None] = [None]
        for value in inputs:
            self.feed(value)

    def feed(self, value: int) -> None:
        after, output = compute(self.states[-1], self.span, Tokens((value,)))
        self.inputs.append(value)
        self.states.append(after)
        self.outputs.append(output.values[0])

    def state(self, position: int, span: Span) -> dict[int, int] | None:
        """Of these blocks after so many tokens; None before the first."""
        known = self.states[position]
        return None if known is None else {block: known[block] for block in span}
