"""Whether a round would ask what an earlier one was told: a reading is paid for, and wears the set."""

from __future__ import annotations

from collections.abc import Collection

from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder


def asked_before(
    folder: RunFolder, ledger: Ledger, current: Round, digests: Collection[str]
) -> int | None:
    """The earlier round that put these very adapters, on this base, before the gate set in use.

    None where there is none, or where that round was cut off before its answer. Raises RoundError where
    every gate set is retired.
    """
    gate = HoldOuts(folder, ledger.database).in_use(Role.GATE).name
    decisions, asked = Decisions(ledger.database), set(digests)
    alike = (one.number for one in ledger.rounds() if one.parent == current.parent)
    return next(
        (n for n in alike if n < current.number and _answered(decisions, n, gate, asked)), None
    )


def _answered(decisions: Decisions, number: int, gate: str, digests: set[str]) -> bool:
    checked = decisions.of(number, RoundState.CHECKING)
    read = decisions.of(number, RoundState.GATING)
    if not checked or not read or read["hold_out"] != gate:
        return False
    is_answer = not read["verdict"]["accepted"] or decisions.of(number, RoundState.VERIFYING)
    return bool(is_answer) and set(checked["ids"].values()) == digests
