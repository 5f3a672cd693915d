"""`python -m seshu_swarm bench data`: speed, memory and finds of `data build`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from seshu_swarm.bench.config import LOOPBACK, BenchConfig
from seshu_swarm.bench.data.building import Measured, build
from seshu_swarm.bench.data.making import (
    Planted,
    Pool,
    held_lines,
    line,
    planted,
    pool_of,
    write_lines,
    write_text,
)
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.data.catalogue import read_pretrain_shard
from seshu_swarm.errors import UsageError
from seshu_swarm.program import log

NUM_WORKERS = 2
NUM_PLANTED = 2_000
MB = 1_000_000
RECIPE = """
languages = {languages}
holdouts = ["held.jsonl"]
[[sources]]
name = "own"
kind = "jsonl"
path = "{path}"
language_column = "lang"
licence = "unknown"
[duplicates]
near = {near}
"""


def run_bench(settings: BenchConfig) -> Outcome:
    """Raises UsageError where links were asked for: a build talks to nobody."""
    if settings.links != LOOPBACK:
        raise UsageError(f"--links {settings.links} for data", rule="it talks to nobody")
    folder = Path(settings.data) if settings.data else None
    return run(pool_of(folder, settings.seed), settings.megabytes, seed=settings.seed)


def run(
    pool: Pool,
    megabytes: int,
    *,
    num_planted: int = NUM_PLANTED,
    num_workers: int = NUM_WORKERS,
    seed: int = 0,
) -> Outcome:
    """Build `megabytes` of text without and with near copies taken out, then planted text."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        write_lines(place / "held.jsonl", held_lines(pool))
        size_bytes = write_text(place / "text", pool, size_bytes=megabytes * MB, seed=seed)
        found = {
            near: _measured(place, pool, near=near, num_workers=num_workers)
            for near in (False, True)
        }
        made = planted(pool, num_documents=num_planted, seed=seed)
        write_lines(place / "planted.jsonl", (line(*row) for row in made.rows))
        recipe = _recipe(place, pool, path="planted.jsonl", near=True)
        build(recipe, place / "out", num_workers=num_workers)
        results = results_of(size_bytes, found, made, kept_of(place / "out"))
    if log.is_text():
        Console().print(table_of(results, size_bytes, num_workers))
    return Outcome(results, [{"size_bytes": size_bytes, "num_planted": num_planted}])


def _measured(place: Path, pool: Pool, *, near: bool, num_workers: int) -> Measured:
    recipe = _recipe(place, pool, path="text/*.jsonl", near=near)
    with tempfile.TemporaryDirectory(dir=place) as out:
        return build(recipe, Path(out), num_workers=num_workers)


def _recipe(place: Path, pool: Pool, *, path: str, near: bool) -> Path:
    languages = json.dumps(sorted(pool.free))
    text = RECIPE.format(languages=languages, path=path, near=str(near).lower())
    recipe = place / "recipe.toml"
    recipe.write_text(text, encoding="utf-8")
    return recipe


def kept_of(out: Path) -> dict[int, list[str]]:
    """Number of each row that was kept → its texts; one of several parts has several."""
    kept: dict[int, list[str]] = {}
    for shard in out.glob("pretrain-*.jsonl"):
        for document in read_pretrain_shard(shard):
            number = int(document.id.split("-")[2])
            kept.setdefault(number, []).append(document.text)
    return kept


def results_of(
    size_bytes: int,
    found: Mapping[bool, Measured],
    made: Planted,
    kept: Mapping[int, list[str]],
) -> dict[str, float]:
    """Numbers by stable name. A row that was touched counts as found. Pure."""
    gone = {k for k in range(len(made.rows)) if k not in kept} - made.contaminated
    cut = {k for k, texts in kept.items() if texts != [made.rows[k][1]]}
    touched = cut | (made.contaminated - kept.keys())
    return {
        "data_mb_per_second": size_bytes / MB / found[False].seconds,
        "data_mb_per_second_near": size_bytes / MB / found[True].seconds,
        "data_mb_per_cpu_second": size_bytes / MB / found[False].cpu_seconds,
        "data_mb_per_cpu_second_near": size_bytes / MB / found[True].cpu_seconds,
        "data_peak_bytes": float(found[False].peak_bytes),
        "data_peak_bytes_near": float(found[True].peak_bytes),
        "duplicates_recall": len(gone & made.copies) / len(made.copies),
        "duplicates_precision": len(gone & made.copies) / max(1, len(gone)),
        "contamination_recall": len(touched & made.contaminated) / len(made.contaminated),
        "contamination_precision": len(touched & made.contaminated) / max(1, len(touched)),
    }


def table_of(results: Mapping[str, Any], size_bytes: int, num_workers: int) -> Table:
    table = Table(
        *("build", "MB/s", "MB/CPU s", "peak MB"),
        title=f"{size_bytes / MB:.0f} MB of text on {num_workers} processes",
        caption="planted copies: recall {duplicates_recall:.3f}, precision "
        "{duplicates_precision:.3f}; planted contamination: {contamination_recall:.3f}, "
        "{contamination_precision:.3f}".format(**results),
    )
    for name, end in (("equal copies alone", ""), ("near copies too", "_near")):
        speeds = [results[f"data_mb_per_{unit}{end}"] for unit in ("second", "cpu_second")]
        peak = results[f"data_peak_bytes{end}"] / MB
        table.add_row(name, *(f"{speed:.2f}" for speed in speeds), f"{peak:.0f}")
    return table
