"""Tokens that each key used of its day, in a file, so that a restart gives nobody a second day.

SQLite (WAL), one transaction a change: several gateways of one folder share the day. A gateway that
is killed has counted all that its requests had reserved.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seshu_swarm.errors import ResourceError, from_os_error

logger = logging.getLogger(__name__)

_TABLE = """CREATE TABLE IF NOT EXISTS used (
    name TEXT PRIMARY KEY, day INTEGER NOT NULL, tokens INTEGER NOT NULL
)"""
# The first of a day begins afresh; what would exceed the day changes nothing.
_ADD = """
INSERT INTO used VALUES (:name, :day, :tokens) ON CONFLICT (name) DO UPDATE
SET tokens = excluded.tokens + CASE day WHEN excluded.day THEN tokens ELSE 0 END, day = excluded.day
WHERE excluded.tokens + CASE day WHEN excluded.day THEN tokens ELSE 0 END <= :most"""
# A statement that takes longer waits for another gateway; requests wait for it.
BUSY_SECONDS = 2.0


class StoredDays:
    """`limits.Days` in a file. Raises ResourceError, DiskFullError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, str(path)) from error
        with self._open() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_TABLE)
        # While it stands, closing another one neither empties the log nor waits for the disk.
        self._standing = sqlite3.connect(path, check_same_thread=False)
        self._standing.execute("SELECT count(*) FROM used").fetchone()

    def try_add(self, name: str, day: int, num_tokens: int, most: int) -> bool:
        if num_tokens > most:
            return False
        values = {"name": name, "day": day, "tokens": num_tokens, "most": most}
        with self._open() as connection:
            return connection.execute(_ADD, values).rowcount == 1

    def give_back(self, name: str, day: int, num_tokens: int) -> None:
        """What cannot be given back stays counted: the answer was given all the same."""
        try:
            self._take_off(name, day, num_tokens)
        except ResourceError as error:
            logger.error("%d tokens of key %r stay counted: %s", num_tokens, name, error)

    def _take_off(self, name: str, day: int, num_tokens: int) -> None:
        with self._open() as connection:
            connection.execute(
                "UPDATE used SET tokens = tokens - ? WHERE name = ? AND day = ?",
                (num_tokens, name, day),
            )

    def used(self, name: str, day: int) -> int:
        with self._open() as connection:
            row = connection.execute(
                "SELECT tokens FROM used WHERE name = ? AND day = ?", (name, day)
            ).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
            connection.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing
            with connection:
                yield connection
        except sqlite3.DatabaseError as error:
            raise ResourceError(
                f"cannot count tokens in {self._path}: {error}",
                rule="the tokens of each key's day are counted in a file",
                way_out="free some space, or move the file away: the day then begins afresh",
            ) from error
        finally:
            if connection is not None:
                connection.close()
