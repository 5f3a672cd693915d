"""`coordinator round N`: verdicts and numbers of one round, from its report."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seshu_swarm.coordinator.config import RoundConfig
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.program import log


def run(settings: RoundConfig) -> int:
    folder = RunFolder.of(settings.state_dir)
    folder.must_exist()
    number = int(settings.number)
    found = Ledger(folder.ledger).round(number)
    path = folder.report(number)
    if not path.exists():
        log.event("round", f"round {number} is {found.state}", round=number, state=str(found.state))
        return 0
    facts = json.loads(path.read_bytes())
    if log.is_text():
        _print(facts)
    else:
        log.event("round", "", **facts)
    return 0


def _print(facts: dict[str, Any]) -> None:
    console = Console()
    outcome = facts.get("reason") or facts.get("revision")
    console.print(f"round {facts['round']} {facts['state']}: {escape(str(outcome))}")
    languages = Table("language", "bits per byte before", "after", "change", "95 % interval")
    for name, found in facts.get("languages", {}).items():
        change = found["change"]
        interval = f"[{change['low']:+.4f}, {change['high']:+.4f}]"
        after = found["after"] - found["before"]
        languages.add_row(
            name, f"{found['before']:.4f}", f"{found['after']:.4f}", f"{after:+.4f}", interval
        )
    adapters = Table("adapter", "language", "verdict", "gain", "reason", "next step")
    for found in facts["adapters"]:
        verdict = "accepted" if found["accepted"] else "rejected"
        # A stranger's file names stand in reasons: they are text, never markup.
        cells = map(escape, (found["gain"], found["reason"], found["next_step"]))
        adapters.add_row(found["digest"][:12], found["language"], verdict, *cells)
    if languages.row_count:
        console.print(languages)
    console.print(adapters)
