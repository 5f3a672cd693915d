"""The line of published revisions, from the base to the head: what each was made from, and how.

A line, not a tree: every revision has one successor at most. A revocation is a successor too, made
again from an older one; a training boundary is where the merges since can be replayed from.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from enum import StrEnum

from seshu_swarm.coordinator.state.database import Database
from seshu_swarm.errors import UsageError


class Kind(StrEnum):
    """How a revision was made; `base` and `pretraining` are training boundaries."""

    BASE = "base"
    PRETRAINING = "pretraining"
    ROUND = "round"
    REVOCATION = "revocation"


BOUNDARIES = frozenset({Kind.BASE, Kind.PRETRAINING})


@dataclass(frozen=True)
class Revision:
    """`withdrawn` says why nobody should use it any more, or nothing."""

    revision: str
    parent: str | None
    kind: Kind
    round: int
    made_at: float
    withdrawn: str = ""


def add_revision(
    connection: sqlite3.Connection, revision: str, *, parent: str | None, kind: Kind, round_: int
) -> None:
    """Within a caller's transaction: the next revision, and the head. The same twice is once."""
    connection.execute(
        "INSERT OR IGNORE INTO revisions (revision, parent, kind, round, made_at)"
        " VALUES (?, ?, ?, ?, ?)",
        (revision, parent, kind, round_, time.time()),
    )
    connection.execute("REPLACE INTO facts VALUES ('revision', ?)", (f'"{revision}"',))


def withdraw_revision(connection: sqlite3.Connection, revision: str, why: str) -> None:
    """Within a caller's transaction."""
    connection.execute("UPDATE revisions SET withdrawn = ? WHERE revision = ?", (why, revision))


class Lineage:
    """The line of one run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, revision: str, *, parent: str | None, kind: Kind, round_: int = 0) -> None:
        """Make `revision` the head. Raises UsageError unless `parent` is the head now."""
        self.must_follow(revision, parent)
        with self._database.open() as connection:
            add_revision(connection, revision, parent=parent, kind=kind, round_=round_)

    def must_follow(self, revision: str, parent: str | None) -> None:
        """Raises UsageError unless `parent` is the head now, or `revision` is already."""
        head = self.head()
        if head is not None and head.revision not in (parent, revision):
            raise UsageError(
                f"revision {revision[:12]} was made from {str(parent)[:12]}",
                rule=f"the run is at {head.revision[:12]}: each revision has one successor",
            )

    def withdraw(self, revision: str, why: str) -> None:
        with self._database.open() as connection:
            withdraw_revision(connection, revision, why)

    def all(self) -> list[Revision]:
        """Oldest first."""
        with self._database.open() as connection:
            rows = connection.execute("SELECT * FROM revisions ORDER BY rowid").fetchall()
        return [Revision(row[0], row[1], Kind(row[2]), *row[3:]) for row in rows]

    def head(self) -> Revision | None:
        return next(reversed(self.all()), None)

    def since_boundary(self) -> list[Revision]:
        """The last training boundary, and all that was made from it since, oldest first."""
        line = self.all()
        last = max((i for i, r in enumerate(line) if r.kind in BOUNDARIES), default=0)
        return line[last:]
