"""What the conductor writes down, and the next one reads: its books, and the trainers' next numbers.

One row of the ledger, one transaction. Knows no orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.pipeline.conductor import Books
from seshu_swarm.pipeline.messages import FIRST, Version
from seshu_swarm.pipeline.protocol.fields import of_ids, to_ids

FACT = "training-books"
# Rounds of one start of the coordinator; a run has no more of them, and the wire has room for 2^21 starts.
ROUNDS = 1 << 32


@dataclass(frozen=True)
class Entry:
    """`numbers`: trainer → its next microbatch; `num_tokens`, and `curve` with some (step, nats per token)."""

    books: Books
    numbers: Mapping[str, int] = field(default_factory=dict)
    num_tokens: int = 0
    curve: tuple[tuple[int, float], ...] = ()


class Journal:
    """Of one plan."""

    def __init__(self, ledger: Ledger, plan: str, *, num_groups: int) -> None:
        self._ledger, self._plan, self._num_groups = ledger, plan, num_groups
        self._num_starts = 0

    def take_up(self) -> tuple[Entry, int]:
        """What was written last, and a round that is no less than any that was told before."""
        table = self._table()
        self._num_starts = int(table.get("num_starts", 0)) + 1
        entry = _entry_of(table) if table else Entry(self._none())
        self.write(entry)
        # The first start begins with round 0: that is the version of the base.
        return entry, (self._num_starts - 1) * ROUNDS

    def write(self, entry: Entry) -> None:
        """After `take_up`. Every step waits for it."""
        table = {"plan": self._plan, "num_starts": self._num_starts} | _table_of(entry)
        self._ledger.set_fact(FACT, table)

    def _table(self) -> dict[str, Any]:
        found = self._ledger.fact(FACT)
        return found if found and found["plan"] == self._plan else {}

    def _none(self) -> Books:
        return Books(-1, frozenset(), False, (FIRST,) * self._num_groups)


def _table_of(entry: Entry) -> dict[str, Any]:
    books = entry.books
    return {
        "step": books.step,
        "ids": of_ids(books.ids),
        "is_final": books.is_final,
        "versions": [list(version) for version in books.versions],
        "numbers": dict(entry.numbers),
        "num_tokens": entry.num_tokens,
        "curve": [list(point) for point in entry.curve],
    }


def _entry_of(table: Mapping[str, Any]) -> Entry:
    versions = tuple(Version(*pair) for pair in table["versions"])
    books = Books(table["step"], to_ids(table["ids"]), table["is_final"], versions)
    curve = tuple((int(step), float(loss)) for step, loss in table["curve"])
    return Entry(books, table["numbers"], table["num_tokens"], curve)
