"""`python -m seshu_swarm bench engine`: everything in one run, about six minutes on two cores."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from rich.console import Console

from seshu_swarm.bench.config import LOOPBACK, BenchConfig
from seshu_swarm.bench.engine import tables
from seshu_swarm.bench.engine.book import Book
from seshu_swarm.bench.engine.engines import our_names
from seshu_swarm.bench.engine.items import Item, all_items
from seshu_swarm.bench.engine.results import results_of
from seshu_swarm.bench.engine.sizes import Sizes
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.errors import UsageError
from seshu_swarm.program import log
from seshu_swarm.program.progress import Bar


def run_bench(settings: BenchConfig) -> Outcome:
    """Raises UsageError where links were asked for: the engine has none."""
    if settings.links != LOOPBACK:
        raise UsageError(f"--links {settings.links} for the engine", rule="it talks to nobody")
    return run()


def run(sizes: Sizes | None = None, *, threads: int | None = None) -> Outcome:
    """Measure with all cores, or so many threads; print the tables; the numbers by name.

    Raises ResourceError where memory runs out.
    """
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    book = Book()
    perform(all_items(sizes or Sizes(), book, threads=threads))
    results = results_of(book, chosen=our_names()[0])
    if log.is_text():
        tables.show(book, results, Console())
    return Outcome(results, book.to_json())


def perform(items: Sequence[Item]) -> None:
    """One item after another, the current one named beside the bar."""
    total = sum(item.expected_seconds for item in items)
    done = 0.0
    with Bar("bench") as bar:
        for item in items:
            bar.update(done / total, now=item.name)
            item.act()
            done += item.expected_seconds
        bar.update(1.0)
