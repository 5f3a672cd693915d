"""`python -m seshu_swarm plan`: what a budget buys, as a table and as numbers by name."""

from __future__ import annotations

import logging
from pathlib import Path

from rich.console import Console

from seshu_swarm.errors import UsageError
from seshu_swarm.planning import accelerators, showing, sizes
from seshu_swarm.planning.config import ASSUMED_MFU, PlanConfig
from seshu_swarm.planning.planner import Means, Plan, make_plan
from seshu_swarm.program import log
from seshu_swarm.program.reports import check_place, write_report

logger = logging.getLogger(__name__)


def run(settings: PlanConfig) -> int:
    if "list" in (settings.gpu, settings.size):
        return _list()
    if settings.size is not None:
        sizes.find(settings.size)
    if settings.report:
        check_place(Path(settings.report))
    means, source = _means(settings)
    plan = make_plan(
        means,
        sizes.SIZES,
        ratio=settings.tokens_per_parameter,
        length=settings.length,
        wanted=settings.size.lower() if settings.size else None,
    )
    _say(settings, plan, source)
    return 0


def _list() -> int:
    gpus = [
        f"{g.name}: {g.peak_flops_per_second / 1e12:.0f} TFLOP/s, {g.memory_bytes / 1e9:.0f} GB"
        for g in accelerators.ACCELERATORS
    ]
    shapes = [f"{name}: {shape.num_parameters:,} parameters" for name, shape in sizes.SIZES.items()]
    log.event("choices", "\n".join([*gpus, *shapes]), gpus=gpus, sizes=shapes)
    return 0


def _means(settings: PlanConfig) -> tuple[Means, str]:
    """What there is to spend, and where its rate comes from."""
    rate, memory_bytes, source = _measured(settings) if settings.measure else _stated(settings)
    hours = settings.hours
    if hours is None:
        hours = settings.budget / settings.price / settings.gpus
    means = Means(
        hours=hours,
        num_gpus=settings.gpus,
        price_per_hour=settings.price,
        flops_per_second=rate,
        memory_bytes=memory_bytes,
    )
    return means, source


def _stated(settings: PlanConfig) -> tuple[float, int, str]:
    gpu = accelerators.find(settings.gpu)
    mfu = ASSUMED_MFU if settings.mfu is None else settings.mfu
    word = "assumed" if settings.mfu is None else "stated"
    source = f"{word}: {mfu:.0%} of the {gpu.peak_flops_per_second / 1e12:.0f} of {gpu.name}"
    return mfu * gpu.peak_flops_per_second, gpu.memory_bytes, source


def _measured(settings: PlanConfig) -> tuple[float, int, str]:
    # torch takes a second to import, and a stated rate needs none of it.
    from seshu_swarm.planning import measuring

    name = settings.size or measuring.default_size()
    logger.info("measuring size %s for %.0f s", name, settings.measure_seconds)
    found = measuring.measure(
        sizes.find(name), seconds=settings.measure_seconds, max_threads=settings.max_threads
    )
    if not found.tokens_per_second > 0:
        raise UsageError(
            f"no step of size {name} ended within {settings.measure_seconds} s",
            way_out="give a longer --measure-seconds or a smaller --size",
        )
    source = f"measured: {found.tokens_per_second:,.0f} bytes/s with {name} on {found.device}"
    return found.flops_per_second, found.memory_bytes, source


def _say(settings: PlanConfig, plan: Plan, source: str) -> None:
    results = showing.results_of(plan)
    if log.is_text():
        showing.show(plan, source, Console())
    log.fact("plan", size=plan.chosen.name, source=source, **results)
    if settings.report:
        write_report(
            Path(settings.report),
            command="plan",
            settings=settings,
            rows=[showing.row_of(offer) for offer in plan.offers],
            results=results,
            size=plan.chosen.name,
            source=source,
        )
