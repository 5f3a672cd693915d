"""The standing of a run's gate set now: documents, readings, and what it can show."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from seshu_swarm.coordinator.opening.power import Power, measured_noise, powers
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.limits import max_detectable, max_readings
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.holdout import read_holdout
from seshu_swarm.evaluate.accept import AcceptRule

GATING = "gating"


def standing(folder: RunFolder, ledger: Ledger) -> tuple[list[Power], bool]:
    """By language, and whether the noise was measured. Raises RoundError without a gate set."""
    hold_outs = HoldOuts(folder, ledger.database)
    gate = hold_outs.in_use(Role.GATE)
    rows = read_holdout(hold_outs.path(gate.name)).rows
    decisions = Decisions(ledger.database)
    gates = [decisions.of(one.number, GATING) for one in ledger.rounds()]
    noise = measured_noise(gate for gate in gates if gate is not None)
    found = powers(
        {language: len(rows.get(language, ())) for language in ledger.fact("languages")},
        readings=Readings(ledger.database).count(gate.name),
        max_readings=max_readings(ledger),
        noise=noise,
        rule=AcceptRule(max_detectable=max_detectable(ledger)),
    )
    return found, bool(noise)


def standing_json(found: list[Power]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]
