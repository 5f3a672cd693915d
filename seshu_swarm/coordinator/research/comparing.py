"""Recorded and simulated outcomes side by side: for people a table, for programs rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.research.replaying import Outcome, Replayed, mean_change
from seshu_swarm.coordinator.state.hold_outs import Role
from seshu_swarm.evaluate.paired import Comparison
from seshu_swarm.program.reports import Result

PREFIX = 8


def show(replayed: Replayed, console: Console) -> None:
    recorded = replayed.round
    console.print(
        f"round {recorded.number}, replayed on its own parent {recorded.parent[:PREFIX]}: "
        f"{len(recorded.candidates)} candidates, {replayed.num_scores} scores spent"
    )
    table = Table("bits per byte", "language", *(f"Δ {role} [95 %]" for role in Role))
    for outcome in replayed.outcomes:
        console.print(f"  {outcome.name}: {outcome.verdict}; {_words(outcome, recorded.ids)}")
        languages = outcome.splits[Role.GATE].gains if outcome.splits else ()
        for language in languages:
            cells = (_cell(outcome.splits[role].gains[language]) for role in Role)
            table.add_row(outcome.name, language, *cells)
    if table.row_count:
        console.print(table)


def _words(outcome: Outcome, ids: dict[str, str]) -> str:
    mixture = outcome.mixture
    if mixture is None:
        return "no mixture"
    members = ", ".join(f"{ids[name][:PREFIX]} {share:.3g}" for name, share in mixture.shares)
    settings = "".join(f", {name} {value:g}" for name, value in mixture.settings)
    return f"{mixture.method}{settings}, λ {mixture.lam:g}: {members}"


def _cell(found: Comparison) -> str:
    return f"{found.delta_bits_per_byte:+.4f}\n[{found.low:+.3f}, {found.high:+.3f}]"


def rows(replayed: Replayed) -> list[dict[str, Any]]:
    """One row for each outcome; adapters by digest."""
    return [
        {
            "round": replayed.round.number,
            "parent": replayed.round.parent,
            "outcome": outcome.name,
            "published": outcome.published,
            "verdict": outcome.verdict,
            "mixture": _mixture_row(outcome.mixture, replayed.round.ids),
            "splits": {str(role): asdict(found) for role, found in outcome.splits.items()},
        }
        for outcome in replayed.outcomes
    ]


def _mixture_row(mixture: Mixture | None, ids: dict[str, str]) -> dict[str, Any] | None:
    if mixture is None:
        return None
    return {
        "method": mixture.method,
        "settings": dict(mixture.settings),
        "lambda": mixture.lam,
        "adapters": [[ids[name], share] for name, share in mixture.shares],
    }


def results(replays: Sequence[Replayed]) -> dict[str, Result]:
    """Over all rounds: how many were published, and the sum of their changes on the final split."""
    found: dict[str, Result] = {"rounds": len(replays)}
    for index, name in enumerate(("recorded", "policy")):
        published = [r.outcomes[index] for r in replays if r.outcomes[index].published]
        changes = [mean_change(outcome.splits[Role.FINAL]) for outcome in published]
        found[f"published_{name}"] = len(published)
        found[f"final_change_{name}"] = sum(changes)
    return found | {"scores_policy": sum(r.num_scores for r in replays)}
