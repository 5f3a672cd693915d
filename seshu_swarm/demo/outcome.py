"""The end of the demo: a table for people, a report for programs, an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from seshu_swarm.demo.config import DemoConfig
from seshu_swarm.demo.generation import Generation
from seshu_swarm.demo.story import Told
from seshu_swarm.errors import MismatchError
from seshu_swarm.program.children import Event
from seshu_swarm.program.reports import Result, write_report


def show(told: Told, seconds: float, console: Console) -> None:
    console.print(_scores(told))
    console.print(_adapters(told))
    for generation in told.generations:
        _show_generation(generation, console)
    console.print(f"checkpoint: {told.round['checkpoint']}", soft_wrap=True)
    console.print(f"the whole round took {seconds:.0f} s on this machine")


def _scores(told: Told) -> Table:
    table = Table(
        "language",
        "bits per byte before",
        "after",
        "change [95 % interval]",
        "tokens/s",
        title="answers that no donor saw (final split, read once)",
    )
    speeds = {g.language: g.tokens_per_second for g in told.generations}
    for name, found in told.round["languages"].items():
        change = found["change"]
        table.add_row(
            name,
            f"{found['before']:.3f}",
            f"{found['after']:.3f}",
            f"{found['after'] - found['before']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]",
            f"{speeds[name]:.0f}",
        )
    return table


def _adapters(told: Told) -> Table:
    table = Table("adapter", "language", "verdict", "gain", "reason", title="adapters")
    for found in told.round["adapters"]:
        verdict = "accepted" if found["accepted"] else "rejected"
        table.add_row(
            found["digest"][:12], found["language"], verdict, found["gain"], found["reason"]
        )
    return table


def _show_generation(generation: Generation, console: Console) -> None:
    same = "same tokens as one process" if generation.is_identical else "DIFFERENT TOKENS"
    lost = ""
    if generation.killed:
        lost = f"; {generation.killed} was killed on the way, {len(generation.recoveries)} replaced"
    text = " ".join(generation.answer[:60].split())
    console.print(
        f"{generation.language}: {generation.prompt!r} → {text!r} ({same}{lost})", markup=False
    )


def results_of(told: Told, seconds: float) -> dict[str, Result]:
    """Numbers under their stable names."""
    accepted = [found for found in told.round["adapters"] if found["accepted"]]
    results: dict[str, Result] = {
        "published": told.round["state"] == "published",
        "tokens_identical": all(g.is_identical for g in told.generations),
        "adapters_accepted": len(accepted),
        "adapters_rejected": len(told.round["adapters"]) - len(accepted),
        "peers_replaced": sum(len(g.recoveries) for g in told.generations),
        "seconds": seconds,
    }
    for name, found in told.round["languages"].items():
        results[f"bits_per_byte_before_{name}"] = found["before"]
        results[f"bits_per_byte_after_{name}"] = found["after"]
        results[f"bits_per_byte_change_low_{name}"] = found["change"]["low"]
        results[f"bits_per_byte_change_high_{name}"] = found["change"]["high"]
    for generation in told.generations:
        results[f"tokens_per_second_{generation.language}"] = generation.tokens_per_second
    return results


def report(settings: DemoConfig, told: Told, seconds: float, path: Path) -> None:
    rows: list[dict[str, Any]] = [*told.round["adapters"]]
    rows += [_trained(name, event) for name, event in told.trained.items()]
    rows += [generation.__dict__ for generation in told.generations]
    write_report(
        path,
        command="demo",
        settings=settings,
        rows=rows,
        results=results_of(told, seconds),
        checkpoint=told.round["checkpoint"],
    )


def _trained(name: str, event: Event) -> dict[str, Any]:
    return {"donor": name, "held_out_before": event["before"], "held_out_after": event["after"]}


def must_agree(told: Told) -> None:
    """Raises MismatchError naming the language whose tokens differ."""
    for generation in told.generations:
        if not generation.is_identical:
            raise MismatchError(
                f"{generation.language}: the swarm's tokens differ from those of the whole model",
                rule="greedy tokens are the same wherever the blocks run",
                way_out="please report it, with the demo's folder of logs",
            )
