"""`bench install`: megabytes and minutes from `pip install` to the first contribution, at 10 Mbit/s."""

from __future__ import annotations

from dataclasses import asdict

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.newcomers.contributing import Contribution, contribute
from seshu_swarm.bench.newcomers.packages import Package, base_requirements, packages_of
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.playing import Stage, play

LINK_BITS_PER_SECOND = 10e6
D_MODEL, NUM_BLOCKS, STEPS = 128, 4, 200
MB = 1e6


def run(settings: BenchConfig) -> Outcome:
    """Raises SeshuError, KeyboardInterrupt."""
    return play(settings, measure, num_steps=2)


async def measure(stage: Stage) -> Outcome:
    settings = stage.settings
    stage.step("resolving packages")
    packages = packages_of(base_requirements())
    stage.step("first contribution")
    contribution = await contribute(
        stage.new_folder(),
        d_model=settings.d_model or D_MODEL,
        num_blocks=settings.num_blocks or NUM_BLOCKS,
        max_steps=settings.steps or STEPS,
    )
    rows = rows_of(packages, contribution)
    tables.show("from `pip install` to the first contribution", rows)
    return Outcome(results_of(packages, contribution), [*rows, *map(asdict, packages)])


def minutes_at_10_mbit(num_bytes: float) -> float:
    """Of the link alone, filled."""
    return num_bytes * 8 / LINK_BITS_PER_SECOND / 60


def rows_of(packages: list[Package], contribution: Contribution) -> list[dict[str, object]]:
    """What is moved, in the order in which it is."""
    torch = sum(one.size_bytes for one in packages if one.name == "torch")
    others = sum(one.size_bytes for one in packages) - torch
    sizes = {"torch": torch, f"{len(packages) - 1} other packages": others}
    sizes |= contribution.fetched_bytes
    sizes["adapter, sent"] = contribution.adapter_bytes
    return [
        {"what": what, "megabytes": size / MB, "minutes_at_10_Mbit/s": minutes_at_10_mbit(size)}
        for what, size in sizes.items()
    ]


def results_of(packages: list[Package], contribution: Contribution) -> dict[str, float]:
    """The total is the link's time and the contribution's; unpacking what pip fetched is not in it."""
    install = sum(one.size_bytes for one in packages)
    moved = sum(contribution.fetched_bytes.values()) + contribution.adapter_bytes
    return {
        "install_megabytes": install / MB,
        "install_packages": len(packages),
        "contribution_megabytes": moved / MB,
        "contribution_seconds": contribution.seconds,
        "first_contribution_minutes": minutes_at_10_mbit(install + moved)
        + contribution.seconds / 60,
    }
