"""What happened, in SQLite (WAL): the run, its rounds, and every adapter with its verdict.

Written before it is acted upon. A write is one transaction.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm.coordinator.rounds.states import RoundState, advance
from seshu_swarm.coordinator.state.database import Database
from seshu_swarm.coordinator.state.lineage import Kind, add_revision
from seshu_swarm.errors import UsageError


@dataclass(frozen=True)
class Round:
    number: int
    state: RoundState
    parent: str
    seed: int
    opened_at: float
    closes_at: float
    revision: str | None
    reason: str


@dataclass(frozen=True)
class Submission:
    """`record` is the AdapterRecord as the donor stored it."""

    digest: str
    round: int
    owner: str
    record: bytes
    arrived_at: float
    state: str
    reason: str
    gain: str
    next_step: str


@dataclass(frozen=True)
class Judgement:
    """What a donor is told of an adapter."""

    digest: str
    state: str
    reason: str
    gain: str
    next_step: str


class Ledger:
    """The ledger of one run folder; `database` is for what lies beside it in the same file."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        self._open = self.database.open

    def set_fact(self, name: str, value: Any) -> None:
        with self._open() as connection:
            connection.execute("REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def fact(self, name: str) -> Any:
        """The fact, or None."""
        with self._open() as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def begin_round(self, *, parent: str, seed: int, closes_at: float) -> Round:
        """Open the next round."""
        now = time.time()
        with self._open() as connection:
            last = connection.execute("SELECT COALESCE(MAX(number), 0) FROM rounds").fetchone()[0]
            connection.execute(
                "INSERT INTO rounds (number, state, parent, seed, opened_at, closes_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (last + 1, RoundState.OPEN, parent, seed, now, closes_at),
            )
        return self.round(last + 1)

    def move_round(
        self, number: int, to: RoundState, *, reason: str = "", revision: str | None = None
    ) -> None:
        """Enter the next state. Raises RoundError when a round may not go there."""
        advance(self.round(number).state, to)
        with self._open() as connection:
            connection.execute(
                "UPDATE rounds SET state = ?, reason = ?, revision = ? WHERE number = ?",
                (to, reason, revision, number),
            )

    def round(self, number: int) -> Round:
        """Raises UsageError for a round that never was."""
        with self._open() as connection:
            row = connection.execute("SELECT * FROM rounds WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise UsageError(f"there was no round {number}", way_out="see coordinator status")
        return Round(row[0], RoundState(row[1]), *row[2:])

    def rounds(self) -> list[Round]:
        with self._open() as connection:
            rows = connection.execute("SELECT * FROM rounds ORDER BY number").fetchall()
        return [Round(row[0], RoundState(row[1]), *row[2:]) for row in rows]

    def add_adapter(self, digest: str, *, round_number: int, owner: str, record: bytes) -> bool:
        """Note an adapter in a round; False if it was noted there already."""
        with self._open() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO adapters (digest, round, owner, record, arrived_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (digest, round_number, owner, record, time.time()),
            )
            return cursor.rowcount == 1

    def judge(self, digest: str, *, state: str, reason: str, gain: str, next_step: str) -> None:
        """Write the verdict on an adapter in the latest round it was handed in to."""
        with self._open() as connection:
            _judge(connection, Judgement(digest, state, reason, gain, next_step))

    def end_round(
        self,
        current: Round,
        to: RoundState,
        *,
        judgements: Iterable[Judgement],
        reason: str = "",
        revision: str | None = None,
    ) -> None:
        """Verdicts, the round's end and the run's new head, all of them or none.

        Raises RoundError when the round may not end so.
        """
        advance(self.round(current.number).state, to)
        with self._open() as connection:
            for judgement in judgements:
                _judge(connection, judgement)
            if revision is not None:
                add_revision(
                    connection,
                    revision,
                    parent=current.parent,
                    kind=Kind.ROUND,
                    round_=current.number,
                )
            connection.execute(
                "UPDATE rounds SET state = ?, reason = ?, revision = ? WHERE number = ?",
                (to, reason, revision, current.number),
            )

    def forget_verdicts(self, round_number: int) -> None:
        with self._open() as connection:
            connection.execute(
                "UPDATE adapters SET state = 'pending', reason = '', gain = '', next_step = ''"
                " WHERE round = ?",
                (round_number,),
            )

    def adapter(self, digest: str) -> Submission | None:
        """The adapter in the latest round it was handed in to."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT * FROM adapters WHERE digest = ? ORDER BY round DESC LIMIT 1", (digest,)
            ).fetchone()
        return Submission(*row) if row else None

    def count_adapters(self, round_number: int, owner: str) -> int:
        """How many adapters one peer has handed in to a round."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT COUNT(*) FROM adapters WHERE round = ? AND owner = ?", (round_number, owner)
            ).fetchone()
        return int(row[0])

    def count_new_adapters(self, round_number: int) -> int:
        """How many adapters of a round no earlier round had: those that return are not counted."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT COUNT(*) FROM (SELECT digest FROM adapters WHERE round <= ?"
                " GROUP BY digest HAVING MIN(round) = ?)",
                (round_number, round_number),
            ).fetchone()
        return int(row[0])

    def adapters(self, round_number: int) -> list[Submission]:
        """Adapters of a round, by digest: an order that says nothing of their authors."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT * FROM adapters WHERE round = ? ORDER BY digest", (round_number,)
            ).fetchall()
        return [Submission(*row) for row in rows]


def _judge(connection: sqlite3.Connection, judgement: Judgement) -> None:
    connection.execute(
        "UPDATE adapters SET state = ?, reason = ?, gain = ?, next_step = ?"
        " WHERE digest = ? AND round = (SELECT MAX(round) FROM adapters WHERE digest = ?)",
        (
            judgement.state,
            judgement.reason,
            judgement.gain,
            judgement.next_step,
            judgement.digest,
            judgement.digest,
        ),
    )
