"""`coordinator status`: the run, its line, what its gate can show, its training, its rounds."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seshu_swarm.coordinator.config import StatusConfig
from seshu_swarm.coordinator.opening.power import Power, power_table
from seshu_swarm.coordinator.opening.standing import standing, standing_json
from seshu_swarm.coordinator.showing.training import training_facts, training_parts
from seshu_swarm.coordinator.state.hold_outs import HoldOuts
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Lineage
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import RoundError
from seshu_swarm.program import log

FACTS = ("run_id", "fingerprint", "languages", "licence", "revision", "catalogue")


def run(settings: StatusConfig) -> int:
    folder = RunFolder.of(settings.state_dir)
    folder.must_exist()
    ledger = Ledger(folder.ledger)
    facts: dict[str, Any] = {name: ledger.fact(name) for name in FACTS}
    facts["rounds"] = [
        {"round": r.number, "state": str(r.state), "revision": r.revision, "reason": r.reason}
        | {"adapters": len(ledger.adapters(r.number))}
        for r in ledger.rounds()
    ]
    facts["revisions"] = [asdict(one) for one in Lineage(ledger.database).all()]
    facts["hold_outs"] = [
        {"name": s.name, "state": s.state, "commitment": s.commitment}
        for s in HoldOuts(folder, ledger.database).all()
    ]
    facts["training"] = training_facts(ledger)
    power, is_measured = _power(folder, ledger)
    if not log.is_text():
        log.event("status", "", **facts, power=standing_json(power))
        return 0
    for part in _parts(facts):
        Console().print(part, soft_wrap=True)
    Console().print(power_table(power, is_measured=is_measured))
    return 0


def _power(folder: RunFolder, ledger: Ledger) -> tuple[list[Power], bool]:
    """Nothing to show where every gate set is retired."""
    try:
        return standing(folder, ledger)
    except RoundError:
        return [], False


def _parts(facts: dict[str, Any]) -> list[str | Table]:
    lines = [f"{name.replace('_', ' ')}: {facts[name]}" for name in FACTS]
    for found in facts["hold_outs"]:
        lines.append(f"held-out set {found['name']} {found['state']}: {found['commitment']}")
    parts: list[str | Table] = ["\n".join(lines)]
    if facts["revisions"]:
        parts.append(_revisions(facts["revisions"]))
    if facts["training"]:
        parts += training_parts(facts["training"])
    if facts["rounds"]:
        parts.append(_rounds(facts["rounds"]))
    return parts


def _revisions(found: list[dict[str, Any]]) -> Table:
    table = Table("revision", "made by", "round", "at", "withdrawn", title="the line")
    for one in found:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(one["made_at"]))
        why = escape(one["withdrawn"])
        table.add_row(one["revision"][:16], str(one["kind"]), str(one["round"] or ""), at, why)
    return table


def _rounds(found: list[dict[str, Any]]) -> Table:
    table = Table("round", "state", "adapters", "outcome", title="rounds")
    for one in found:
        outcome = (one["revision"] or "")[:16] or escape(one["reason"])
        table.add_row(str(one["round"]), one["state"], str(one["adapters"]), outcome)
    return table
