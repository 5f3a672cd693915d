"""How often each held-out set was read: the k of alpha spending, noted before the reading."""

from __future__ import annotations

import time

from seshu_swarm.coordinator.state.database import Database


class Readings:
    """Readings of held-out sets, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, hold_out: str, subject: str) -> int:
        """The number of this reading, from 1. The same subject again is the same reading.

        `subject` names what is scored, so that a round that was killed and taken up pays once.
        """
        with self._database.open() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO readings (hold_out, number, subject, read_at)"
                " SELECT ?, COALESCE(MAX(number), 0) + 1, ?, ? FROM readings WHERE hold_out = ?",
                (hold_out, subject, time.time(), hold_out),
            )
            row = connection.execute(
                "SELECT number FROM readings WHERE hold_out = ? AND subject = ?",
                (hold_out, subject),
            ).fetchone()
        return int(row[0])

    def count(self, hold_out: str) -> int:
        with self._database.open() as connection:
            row = connection.execute(
                "SELECT COUNT(*) FROM readings WHERE hold_out = ?", (hold_out,)
            ).fetchone()
        return int(row[0])

    def of(self, subject: str) -> set[str]:
        """Names of the sets that were read for it."""
        with self._database.open() as connection:
            rows = connection.execute(
                "SELECT hold_out FROM readings WHERE subject = ?", (subject,)
            ).fetchall()
        return {str(name) for (name,) in rows}
