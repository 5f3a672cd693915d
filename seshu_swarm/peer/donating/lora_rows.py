"""A donor's rows, cut into those to train on and those that check the adapter before it is offered.

Deterministic: rows are held out by the digest of their answer. No answer and no question is on both
sides. Knows no model and no swarm.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

from seshu_swarm.data.overlap import normalise
from seshu_swarm.data.text import Row
from seshu_swarm.errors import DataError


def hold_out(
    rows: Iterable[Row], *, share: float, max_rows: int
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """`(rows to train on, held-out rows)`; about `share` of them is held out, at most `max_rows`.

    The same row twice counts once. Raises DataError where one of the two would be empty.
    """
    unique = {row.digest: row for row in rows if row.output.strip()}
    groups = _groups(unique.values())
    held = _draw(groups, min(max_rows, math.ceil(share * len(unique))))
    answers = {normalise(row.output) for row in held}
    questions = {_question(row) for row in held}
    kept = tuple(
        row
        for row in unique.values()
        if normalise(row.output) not in answers and _question(row) not in questions
    )
    if not (kept and held):
        raise DataError(
            f"{len(unique)} rows with {len(groups)} different answers",
            rule="some answers are held out to check the adapter, and some must be left to learn",
            way_out="give more rows, with different answers",
        )
    return kept, tuple(held)


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows of one answer together, in the order of the answers' digests."""
    groups: dict[bytes, list[Row]] = {}
    for row in rows:
        groups.setdefault(hashlib.sha256(normalise(row.output)).digest(), []).append(row)
    return [sorted(groups[key], key=lambda row: row.digest) for key in sorted(groups)]


def _draw(groups: Sequence[list[Row]], num_rows: int) -> list[Row]:
    """Whole groups while they fit; the smallest one if none does."""
    held: list[Row] = []
    for group in groups:
        if len(held) + len(group) <= num_rows:
            held += group
    return held or min(groups, key=len, default=[])


def _question(row: Row) -> object:
    """What may not be asked on both sides; plain text has no question."""
    if not (row.instruction or row.input):
        return row.digest
    return normalise(row.instruction), normalise(row.input)
