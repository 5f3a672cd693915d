"""What each phase of a round decided, as JSON, written before the next phase begins.

A round that was killed reads what it had decided and never decides it again: candidates' random
ids, the chosen mixture, the gate's word, the final word.
"""

from __future__ import annotations

import json
from typing import Any

from seshu_swarm.coordinator.state.database import Database


class Decisions:
    """Decisions of all rounds, by phase."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, round_number: int, phase: str) -> dict[str, Any] | None:
        """What the phase decided, or None while it has not."""
        with self._database.open() as connection:
            row = connection.execute(
                "SELECT value FROM decisions WHERE round = ? AND phase = ?", (round_number, phase)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def note(self, round_number: int, phase: str, value: dict[str, Any]) -> dict[str, Any]:
        """Keep the first decision of a phase; what is kept comes back, through JSON."""
        text = json.dumps(value, sort_keys=True, allow_nan=False)
        with self._database.open() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO decisions VALUES (?, ?, ?)", (round_number, phase, text)
            )
        return self.of(round_number, phase) or {}
