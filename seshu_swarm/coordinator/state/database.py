"""The run's SQLite file (WAL): its tables, and one transaction at a time.

A connection is opened per transaction, so that any thread may write. Knows no rounds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seshu_swarm.errors import UsageError, from_os_error

BUSY_SECONDS = 10.0
ENOSPC = 28
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rounds (
    number INTEGER PRIMARY KEY, state TEXT NOT NULL, parent TEXT NOT NULL, seed INTEGER NOT NULL,
    opened_at REAL NOT NULL, closes_at REAL NOT NULL, revision TEXT, reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS adapters (
    digest TEXT NOT NULL, round INTEGER NOT NULL, owner TEXT NOT NULL, record BLOB NOT NULL,
    arrived_at REAL NOT NULL, state TEXT NOT NULL DEFAULT 'pending', reason TEXT NOT NULL DEFAULT '',
    gain TEXT NOT NULL DEFAULT '', next_step TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (digest, round)
);
CREATE TABLE IF NOT EXISTS decisions (
    round INTEGER NOT NULL, phase TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (round, phase)
);
CREATE TABLE IF NOT EXISTS readings (
    hold_out TEXT NOT NULL, number INTEGER NOT NULL, subject TEXT NOT NULL, read_at REAL NOT NULL,
    PRIMARY KEY (hold_out, number), UNIQUE (hold_out, subject)
);
CREATE TABLE IF NOT EXISTS hold_outs (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, salt TEXT NOT NULL, commitment TEXT NOT NULL,
    state TEXT NOT NULL, retired_at REAL
);
CREATE TABLE IF NOT EXISTS revisions (
    revision TEXT PRIMARY KEY, parent TEXT, kind TEXT NOT NULL, round INTEGER NOT NULL,
    made_at REAL NOT NULL, withdrawn TEXT NOT NULL DEFAULT ''
);
"""


class Database:
    """The tables of one run folder. Raises UsageError where the file cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self.open() as connection:
            connection.executescript(_TABLES)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """One transaction: kept when the block ends, undone when it raises."""
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
        except sqlite3.OperationalError as error:
            raise UsageError(f"cannot open the ledger {self._path}: {error}") from None
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            with connection:
                yield connection
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise from_os_error(OSError(ENOSPC, str(error)), str(self._path)) from error
            raise
        finally:
            connection.close()
