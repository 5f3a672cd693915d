"""The line of a run's revisions as one reader saw it: every revision has one successor.

Two signed successors of one parent mean that two coordinators work with one key. Nobody can tell
which of them is right, so the reader stops following and names both. Kept in a file, so that it
holds over restarts. Knows no network.
"""

from __future__ import annotations

import json
from pathlib import Path

from seshu_swarm.errors import ForkError
from seshu_swarm.packages import write_whole
from seshu_swarm.records import RunRecord

LINE_FILE = "line.json"
MAX_REVISIONS = 1_000


class Line:
    """Parent → revision, oldest first. With a `folder` it is kept there, a run beside others."""

    def __init__(self, run_id: str, folder: Path | None = None) -> None:
        self._run_id, self._folder = run_id, folder
        found = _read(folder).get(run_id) if folder else None
        self._next: dict[str, str] = dict(found) if isinstance(found, dict) else {}

    def follow(self, record: RunRecord) -> None:
        """Note the record's place in the line. Raises ForkError."""
        if record.parent is None:
            return
        known = self._next.setdefault(record.parent, record.revision)
        if known != record.revision:
            raise ForkError(
                f"run {record.run_id!r} has two signed successors of {record.parent[:12]}: "
                f"{known[:12]} and {record.revision[:12]}",
                rule="each revision has one: two coordinators work with one key",
                way_out="ask the maintainer which one is right, and join with a new state folder",
            )
        if len(self._next) > MAX_REVISIONS:
            self._next.pop(next(iter(self._next)))
        self._keep()

    def _keep(self) -> None:
        if self._folder is None:
            return
        table = _read(self._folder)
        if table.get(self._run_id) != self._next:
            text = json.dumps(table | {self._run_id: self._next})
            write_whole(self._folder / LINE_FILE, text.encode())


def _read(folder: Path) -> dict[str, object]:
    try:
        table = json.loads((folder / LINE_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
