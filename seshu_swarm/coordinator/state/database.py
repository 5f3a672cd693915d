"""The run's SQLite file (WAL): its tables, and one transaction at a time.

A connection is opened per transaction, so that any thread may write. Knows no rounds.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from seshu_swarm.errors import PackageError, SeshuError, UsageError, from_os_error

BUSY_SECONDS = 10.0
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
    """The tables of one run folder; the file is its owner's alone.

    Raises UsageError where it cannot be opened or written, PackageError where it is damaged,
    DiskFullError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._create()
        with self.open() as connection:
            connection.executescript(_TABLES)

    def _create(self) -> None:
        # Never of a file that is there: to close it would drop the locks of this process's connections.
        try:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return
        except FileNotFoundError:
            raise UsageError(
                f"cannot open the ledger {self._path}: there is no such folder",
                way_out="check --state-dir",
            ) from None
        except OSError as error:
            raise from_os_error(error, str(self._path)) from error

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """One transaction: kept when the block ends, undone when it raises."""
        try:
            with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                with connection:
                    yield connection
        except sqlite3.DatabaseError as error:
            named = _named(error, self._path)
            if named is None:
                raise
            raise named from error


def _named(error: sqlite3.DatabaseError, path: Path) -> SeshuError | None:
    """What a maintainer can do something about; a mistake in a statement is none of it."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return from_os_error(OSError(errno.ENOSPC, str(error)), str(path))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return PackageError(
            f"the ledger {path} is damaged: {error}",
            rule="nothing is decided on a ledger that cannot be read whole",
            way_out="restore the newest backup: coordinator restore FILE --state-dir NEW_FOLDER",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return UsageError(
            f"the ledger {path} is locked by another program: {error}",
            rule=f"a write waits {BUSY_SECONDS:g} seconds at most",
            way_out="close what reads or copies it, then try again",
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_IOERR")):
        return UsageError(
            f"the ledger {path} cannot be opened or written: {error}",
            rule="it and its folder belong to whoever runs the coordinator",
            way_out="run as its owner, on a disk that can be written and does not fail",
        )
    return None
