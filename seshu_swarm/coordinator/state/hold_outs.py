"""The run's held-out sets: committed to before a round opens, retired when read too often.

Of each role (tuning, gate, final) one set is in use; others wait in reserve. Only commitments
(SHA-256 with a salt) leave the coordinator before a set is retired. Knows no windows and no scores.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from seshu_swarm.coordinator.state.database import Database
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.holdout import Holdout, commitment, write_holdout
from seshu_swarm.errors import RoundError

SALT_BYTES = 32


class Role(StrEnum):
    """What a set is for: choosing, deciding once a round, reporting once a release."""

    TUNING = "tuning"
    GATE = "gate"
    FINAL = "final"


class SetState(StrEnum):
    IN_USE = "in use"
    RESERVE = "reserve"
    RETIRED = "retired"


@dataclass(frozen=True)
class HeldOutSet:
    """One set; `salt` is secret until the set is retired and revealed."""

    name: str
    role: Role
    salt: str
    commitment: str
    state: SetState
    retired_at: float | None


class HoldOuts:
    """The held-out sets of one run folder."""

    def __init__(self, folder: RunFolder, database: Database) -> None:
        self._folder, self._database = folder, database

    def add(self, role: Role, holdout: Holdout) -> HeldOutSet:
        """Keep a set and commit to it: in use where its role has none yet, else in reserve."""
        of_role = [found for found in self.all() if found.role is role]
        name = f"{role}-{len(of_role) + 1}"
        is_first = not any(found.state is SetState.IN_USE for found in of_role)
        salt = secrets.token_bytes(SALT_BYTES)
        self._folder.hold_outs.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_holdout(self.path(name), holdout)
        state = SetState.IN_USE if is_first else SetState.RESERVE
        row = (name, role, salt.hex(), commitment(holdout, salt), state, None)
        with self._database.open() as connection:
            connection.execute("INSERT INTO hold_outs VALUES (?, ?, ?, ?, ?, ?)", row)
        return _set_of(row)

    def path(self, name: str) -> Path:
        return self._folder.hold_outs / f"{name}.jsonl"

    def all(self) -> list[HeldOutSet]:
        with self._database.open() as connection:
            rows = connection.execute("SELECT * FROM hold_outs ORDER BY rowid").fetchall()
        return [_set_of(row) for row in rows]

    def in_use(self, role: Role) -> HeldOutSet:
        """Raises RoundError where every set of the role is retired."""
        for found in self.all():
            if found.role is role and found.state is SetState.IN_USE:
                return found
        raise RoundError(
            f"every {role} set of the run is retired",
            rule="a set that was read too often can no longer be believed",
            way_out="draw a new one: python -m seshu_swarm.coordinator reveal --draw FOLDER",
        )

    def retire(self, name: str) -> HeldOutSet | None:
        """Never read it again; where it was in use, the next set in reserve takes its place."""
        found = next(one for one in self.all() if one.name == name)
        is_next = found.state is SetState.IN_USE
        others = [s for s in self.all() if s.role is found.role and s.name != name]
        reserve = [s for s in others if is_next and s.state is SetState.RESERVE]
        with self._database.open() as connection:
            connection.execute(
                "UPDATE hold_outs SET state = ?, retired_at = ? WHERE name = ?",
                (SetState.RETIRED, time.time(), name),
            )
            for successor in reserve[:1]:
                connection.execute(
                    "UPDATE hold_outs SET state = ? WHERE name = ?",
                    (SetState.IN_USE, successor.name),
                )
        return reserve[0] if reserve else None


def _set_of(row: tuple[Any, ...]) -> HeldOutSet:
    name, role, salt, committed, state, retired_at = row
    return HeldOutSet(name, Role(role), salt, committed, SetState(state), retired_at)
