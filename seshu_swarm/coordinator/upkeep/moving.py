"""The head moves without a round: what that decides is one transaction, all of it or nothing.

The round that was open ends, for its adapters fit the old head. For commands that hold the run's
lock: no `coordinator run` is working.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from seshu_swarm.coordinator.rounds import report
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState
from seshu_swarm.coordinator.state.ledger import Judgement, Ledger
from seshu_swarm.coordinator.state.lineage import (
    Kind,
    Lineage,
    Revision,
    add_revision,
    withdraw_revision,
)
from seshu_swarm.coordinator.state.run_folder import RunFolder

NEXT_STEP = "train on the new checkpoint and hand in again; peer finetune --follow does that"


@dataclass(frozen=True, kw_only=True)
class Move:
    """From `head` to `revision`; `why` is what donors of the open round are told.

    `withdrawn`: revision → why nobody should use it; `judgements` are of adapters merged before.
    """

    head: Revision
    revision: str
    kind: Kind
    why: str
    withdrawn: Mapping[str, str] = field(default_factory=dict)
    judgements: tuple[Judgement, ...] = ()


def move_head(folder: RunFolder, ledger: Ledger, move: Move) -> None:
    """Make the move, and report the round that it ended. Raises UsageError (another head)."""
    Lineage(ledger.database).must_follow(move.revision, move.head.revision)
    open_round = next((r.number for r in ledger.rounds()[-1:] if r.state not in ENDED), None)
    with ledger.database.open() as connection:
        judge(connection, move.judgements)
        if open_round is not None:
            _abort(connection, open_round, move.why)
        for revision, why in move.withdrawn.items():
            withdraw_revision(connection, revision, why)
        add_revision(
            connection,
            move.revision,
            parent=move.head.revision,
            kind=move.kind,
            round_=move.head.round,
        )
    report_aborted(folder, ledger)


def judge(connection: sqlite3.Connection, judgements: Iterable[Judgement]) -> None:
    """The verdicts, each in the latest round that its adapter was handed in to."""
    for one in judgements:
        connection.execute(
            "UPDATE adapters SET state = ?, reason = ?, gain = ?, next_step = ? WHERE digest = ?"
            " AND round = (SELECT MAX(round) FROM adapters WHERE digest = ?)",
            (one.state, one.reason, one.gain, one.next_step, one.digest, one.digest),
        )


def _abort(connection: sqlite3.Connection, number: int, why: str) -> None:
    """End a round with a verdict for everyone who waits for one."""
    connection.execute(
        "UPDATE adapters SET state = 'rejected', reason = ?, next_step = ?"
        " WHERE round = ? AND state = 'pending'",
        (f"STALE_BASE: {why}", NEXT_STEP, number),
    )
    connection.execute(
        "UPDATE rounds SET state = ?, reason = ? WHERE number = ?",
        (RoundState.ABORTED, why, number),
    )


def report_aborted(folder: RunFolder, ledger: Ledger) -> None:
    """The report of the last round, where it was aborted and a kill came before its report."""
    for last in ledger.rounds()[-1:]:
        if last.state is RoundState.ABORTED and not folder.report(last.number).exists():
            report.write(folder, report.aborted(ledger, last, last.reason))
