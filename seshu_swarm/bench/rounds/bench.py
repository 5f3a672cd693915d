"""`python -m seshu_swarm bench rounds`: what gets in, what does not, and whether all records arrive.

Three parts. Two hundred worthless adapters over a base that has seen many rows, each in a round of
its own and again ten to a round: every one that is merged counts. Four honest donors of one language each: how
many are merged, and in how many of their languages the merged model is better on the final split,
the whole interval below zero. A thousand donors' records through a DHT of ten peers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.bench.config import LOOPBACK, BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.rounds import spreading
from seshu_swarm.bench.rounds.holding import Holder
from seshu_swarm.bench.rounds.spreading import Crowds, Spread
from seshu_swarm.bench.rounds.world import Sizes, World
from seshu_swarm.bench.rounds.worthless import worthless_adapters
from seshu_swarm.bench.swarm import tables
from seshu_swarm.errors import UsageError
from seshu_swarm.program import running
from seshu_swarm.program.progress import Bar

NUM_WORTHLESS = 200
LATER_ROWS_SHARE = 0.5
BATCH = 10  # candidates of a round, where worthless ones come together


@dataclass(frozen=True)
class Nulls:
    """Of worthless adapters: how many a round took, and how often a gate was read."""

    per_round: int
    adapters: int
    rounds: int
    chosen: int
    gate_readings: int
    accepted: int
    seconds: float


@dataclass(frozen=True)
class Honest:
    """`changes`: language → bits per byte on the final split, and the interval's upper end."""

    donors: int
    passed: int
    changes: dict[str, tuple[float, float]]
    seconds: float

    @property
    def better(self) -> int:
        return sum(high < 0 for _, high in self.changes.values())


def run_bench(settings: BenchConfig) -> Outcome:
    """Raises UsageError where links were asked for, SeshuError, KeyboardInterrupt."""
    if settings.links != LOOPBACK:
        raise UsageError(f"--links {settings.links} for rounds", rule="its peers are on loopback")
    return run(Sizes(seed=settings.seed), Crowds(), num_worthless=NUM_WORTHLESS)


def run(sizes: Sizes, crowds: Crowds, *, num_worthless: int) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="seshu-bench-") as folder, Bar("bench rounds") as bar:
        bar.update(0.0, now="a thousand donors' records")
        spread = _spread(Path(folder), crowds)
        bar.update(0.3, now="an honest donor for each language")
        world = World(Path(folder) / "young", sizes)
        honest = measure_honest(world)
        later = World(Path(folder) / "later", replace(sizes, base_rows_share=LATER_ROWS_SHARE))
        found = worthless_adapters(world.honest, num_worthless, seed=sizes.seed)
        nulls = []
        for part, per_round in ((0.4, 1), (0.8, BATCH)):
            bar.update(part, now=f"worthless adapters, {per_round} to a round")
            nulls.append(measure_nulls(later, found, per_round=per_round))
        bar.update(1.0)
    rows = rows_of(nulls, honest, spread)
    tables.show("what a round takes and what it refuses", rows)
    return Outcome(results_of(nulls, honest, spread), rows)


def measure_nulls(world: World, found: Mapping[str, Adapter], *, per_round: int) -> Nulls:
    """Hold a round for every `per_round` of the adapters, over the same base."""
    holder, began = Holder(world), time.perf_counter()
    names, languages = list(found), world.sizes.languages
    chosen = accepted = 0
    for start in range(0, len(names), per_round):
        candidates = {name: found[name] for name in names[start : start + per_round]}
        declared = {name: languages[i % len(languages)] for i, name in enumerate(candidates)}
        held = holder.hold(candidates, declared)
        chosen, accepted = chosen + len(held.selection.chosen), accepted + len(held.accepted)
    num_rounds = -(-len(names) // per_round)
    seconds = time.perf_counter() - began
    return Nulls(per_round, len(names), num_rounds, chosen, holder.readings, accepted, seconds)


def measure_honest(world: World) -> Honest:
    """One round with an honest donor for each language."""
    holder, began = Holder(world), time.perf_counter()
    candidates = {f"donor-{number}": a for number, a in enumerate(world.honest.values())}
    languages = dict(zip(candidates, world.honest, strict=True))
    held = holder.hold(candidates, languages)
    compared = holder.compare(held.selection.mixture, candidates) if held.accepted else None
    gains = compared.gains if compared else {}
    changes = {name: (c.delta_bits_per_byte, c.high) for name, c in gains.items()}
    return Honest(len(candidates), len(held.accepted), changes, time.perf_counter() - began)


def _spread(folder: Path, crowds: Crowds) -> Spread:
    found: list[Spread] = []

    async def main(stop: running.Stop) -> int:
        async def measured() -> None:
            found.append(await spreading.measure(folder, crowds))

        await running.first_to_end(measured(), stop.wait())
        return 0

    running.run(main)
    if not found:
        raise KeyboardInterrupt
    return found[0]


def results_of(nulls: list[Nulls], honest: Honest, spread: Spread) -> dict[str, float]:
    """Numbers by stable name; the null control's is that of the worse of its two ways. Pure."""
    worst = max(nulls, key=lambda found: found.accepted)
    return {
        f"null_accepted_of_{worst.adapters}": worst.accepted,
        **{f"null_accepted_{n.per_round}_to_a_round": n.accepted for n in nulls},
        **{f"null_gate_readings_{n.per_round}_to_a_round": n.gate_readings for n in nulls},
        f"honest_passed_of_{honest.donors}": honest.passed,
        f"languages_better_of_{honest.donors}": honest.better,
        **{f"honest_change_{name}": change for name, (change, _) in honest.changes.items()},
        f"records_lost_of_{spread.donors}": spread.lost,
        "records_seconds": spread.seconds,
    }


def rows_of(nulls: list[Nulls], honest: Honest, spread: Spread) -> list[dict[str, Any]]:
    """What was measured, a row each. Pure."""
    rows: list[dict[str, Any]] = [
        {
            "what": f"{n.adapters} worthless adapters, {n.per_round} to a round",
            "wanted": "accepted at most 1 in 100",
            "found": f"{n.accepted} accepted; {n.chosen} chosen, {n.gate_readings} gates read",
            "seconds": n.seconds,
        }
        for n in nulls
    ]
    changes = ", ".join(f"{name} {change:+.3f}" for name, (change, _) in honest.changes.items())
    rows.append(
        {
            "what": f"{honest.donors} honest donors of one language each",
            "wanted": "all merged, each language better",
            "found": f"{honest.passed} merged, {honest.better} better: {changes} bits per byte",
            "seconds": honest.seconds,
        }
    )
    rows.append(
        {
            "what": f"records of {spread.donors} donors",
            "wanted": "none lost",
            "found": f"{spread.lost} lost; announced in {spread.announce_seconds:.1f} s",
            "seconds": spread.seconds,
        }
    )
    return rows
