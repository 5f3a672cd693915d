"""The line of a run's revisions as one reader saw it: every revision has one successor.

Two signed successors of one parent mean that two coordinators work with one key. Nobody can tell
which of them is right, so the reader stops following for good and names both. Kept in a file, so
that it holds over restarts. Knows no network.
"""

from __future__ import annotations

import json
from pathlib import Path

from seshu_swarm.errors import ForkError
from seshu_swarm.packages import write_whole
from seshu_swarm.records.kinds import RunRecord

LINE_FILE = "line.json"
MAX_REVISIONS = 1_000


class Line:
    """Parent → revision, oldest first. With a `folder` it is kept there, a run beside others."""

    def __init__(self, run_id: str, folder: Path | None = None) -> None:
        self._run_id, self._folder = run_id, folder
        found = _read(folder).get(run_id) if folder else None
        table = found if isinstance(found, dict) else {}
        line = table.get("line")
        self._next: dict[str, str] = dict(line) if isinstance(line, dict) else {}
        self._fork = str(table.get("fork") or "")

    def follow(self, record: RunRecord) -> None:
        """Note the record's place in the line. Raises ForkError once it has forked, and ever after."""
        if record.parent is not None and not self._fork:
            self._go_on(record.parent, record.revision)
        if self._fork:
            raise ForkError(
                f"run {self._run_id!r} has {self._fork}",
                rule="each revision has one: two coordinators work with one key",
                way_out="ask the maintainer which one is right, and join with a new state folder",
            )

    def _go_on(self, parent: str, revision: str) -> None:
        known = self._next.setdefault(parent, revision)
        if known != revision:
            self._fork = f"two signed successors of {parent[:12]}: {known[:12]} and {revision[:12]}"
        if len(self._next) > MAX_REVISIONS:
            self._next.pop(next(iter(self._next)))
        self._keep()

    def _keep(self) -> None:
        if self._folder is None:
            return
        table, mine = _read(self._folder), {"line": self._next, "fork": self._fork}
        if table.get(self._run_id) != mine:
            text = json.dumps(table | {self._run_id: mine})
            write_whole(self._folder / LINE_FILE, text.encode())


def _read(folder: Path) -> dict[str, object]:
    try:
        table = json.loads((folder / LINE_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
