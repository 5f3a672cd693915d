"""Who repeats whom within a language: equal texts, and texts whose signatures are alike.

The first in the recipe's order stays. Hashes are sorted in parts of about two million, so that
memory hardly grows with the number of texts: by nine bytes each. N: texts of a language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.data.building.near import (
    MINIMUM_WORDS,
    NUM_BANDS,
    NUM_VALUES,
    least_estimate,
    similarity,
)
from seshu_swarm.data.building.spool import Index

KEPT, EXACT, NEAR = 0, 1, 2
REASONS = {EXACT: "exact_duplicate", NEAR: "near_duplicate"}
TEXTS_PER_PART = 2 << 20
# Alike texts share a band with few that are not; of a template's many, these many are centres.
MAX_CENTRES = 8

Numbers = NDArray[np.int64]
Fates = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
# The hashes of one piece's texts, by the piece's number.
Column = Callable[[int], Hashes]


def exact_duplicates(index: Index) -> Fates:
    """EXACT for each text that came before, KEPT for the others: (N,)."""
    fates = np.zeros(len(index), dtype=np.uint8)
    for group in groups_of(index, lambda k: index.parts[k]["digest"], fates):
        fates[group[1:]] = EXACT
    return fates


def mark_near_duplicates(index: Index, fates: Fates, *, at_least: float) -> None:
    """Set NEAR for each kept text that is alike to an earlier one, be it through others."""
    near = index.signatures()
    parents = np.arange(len(index), dtype=np.int64)
    too_short = np.concatenate([part["words"] < MINIMUM_WORDS for part in index.parts])
    is_out = (fates != KEPT) | too_short
    for band in range(NUM_BANDS):

        def column(k: int, band: int = band) -> Hashes:
            found: Hashes = near[k]["bands"][:, band]
            return found

        for group in groups_of(index, column, is_out.astype(np.uint8)):
            _join(group, parents, _Bytes(index, near), least_estimate(at_least))
    roots = _roots(parents)
    fates[(roots != np.arange(len(index))) & (fates == KEPT)] = NEAR


class _Bytes:
    """Signature bytes of texts by their numbers, from the pieces' files."""

    def __init__(self, index: Index, near: list[NDArray[np.void]]) -> None:
        self._index, self._near = index, near

    def of(self, numbers: Numbers) -> NDArray[np.uint8]:
        """(n, 96)"""
        pieces = np.searchsorted(self._index.starts, numbers, side="right") - 1
        found = np.empty((len(numbers), NUM_VALUES), dtype=np.uint8)
        for k in np.unique(pieces):
            mine = pieces == k
            found[mine] = self._near[k]["bytes"][numbers[mine] - self._index.starts[k]]
        return found


def groups_of(index: Index, column: Column, fates: Fates) -> Iterator[Numbers]:
    """Numbers of the kept texts that have a hash in common, ascending; of groups from two on."""
    num_parts = max(1, -(-len(index) // TEXTS_PER_PART))
    for part in range(num_parts):
        hashes, numbers = _part(index, column, fates, part, num_parts)
        order = np.argsort(hashes, kind="stable")
        hashes, numbers = hashes[order], numbers[order]
        is_first = np.ones(len(hashes), dtype=np.bool_)
        is_first[1:] = hashes[1:] != hashes[:-1]
        starts = np.flatnonzero(is_first)
        ends = np.append(starts[1:], len(hashes))
        for k in np.flatnonzero(ends - starts > 1):
            yield numbers[starts[k] : ends[k]]


def _part(
    index: Index, column: Column, fates: Fates, part: int, num_parts: int
) -> tuple[Hashes, Numbers]:
    """Hashes and numbers of the kept texts whose hash falls into the part."""
    hashes, numbers = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for k, (start, size) in enumerate(zip(index.starts, index.sizes, strict=True)):
        found = np.asarray(column(k))
        mine = fates[start : start + size] == KEPT
        if num_parts > 1:
            mine &= (found >> np.uint64(40)) % np.uint64(num_parts) == part
        at = np.flatnonzero(mine)
        hashes.append(found[at])
        numbers.append(at + start)
    return np.concatenate(hashes), np.concatenate(numbers)


def _join(group: Numbers, parents: Numbers, near: _Bytes, at_least: float) -> None:
    """Join those of a group that are alike to one of its first few; `parents` is changed."""
    for _ in range(MAX_CENTRES):
        if len(group) < 2:
            return
        root = _root(parents, int(group[0]))
        others = np.asarray([n for n in group[1:] if _root(parents, int(n)) != root])
        if not len(others):
            return
        alike = similarity(near.of(group[:1])[0], near.of(others)) >= at_least
        for number in others[alike].tolist():
            first, second = sorted((_root(parents, int(group[0])), _root(parents, number)))
            parents[second] = first
        group = others[~alike]


def _root(parents: Numbers, number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = int(parents[number])
    return number


def _roots(parents: Numbers) -> Numbers:
    """The root of each text: the first of those it is joined with."""
    while True:
        above = parents[parents]
        if np.array_equal(above, parents):
            return parents
        parents = above
