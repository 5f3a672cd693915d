"""`python -m seshu_swarm data build`: the three stages over all tasks, and what is said of them."""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from seshu_swarm.data.building import packing, reading, settling
from seshu_swarm.data.building.config import DataBuildConfig
from seshu_swarm.data.building.manifest import Books, write_manifest
from seshu_swarm.data.building.mixture import factors_of
from seshu_swarm.data.building.packing import PackTask
from seshu_swarm.data.building.pieces import Piece, digest_of_inputs, inputs_of, pieces_of
from seshu_swarm.data.building.reading import ReadTask, check_tools
from seshu_swarm.data.building.recipe import Recipe, read_recipe
from seshu_swarm.data.building.settling import SettleTask
from seshu_swarm.data.building.tally import Tally, total
from seshu_swarm.data.building.work import Work
from seshu_swarm.data.building.workers import Workers
from seshu_swarm.errors import DiskFullError
from seshu_swarm.program import log
from seshu_swarm.program.progress import Bar

logger = logging.getLogger(__name__)

Task = TypeVar("Task")
# Changes when the same recipe gives another output.
RULES = 1
LIBRARIES = ("babel", "datasketch", "regex")
# The books of a package name each shard, and are at most a megabyte.
MAX_SHARDS = 3_000


@dataclass(frozen=True)
class Built:
    """A finished catalogue. `steps` as in its books; empty where it had been finished before."""

    digest: str
    steps: Sequence[Mapping[str, Any]]
    empty_languages: Sequence[str]


def run(settings: DataBuildConfig) -> int:
    workers = settings.workers or len(os.sched_getaffinity(0))
    built = build(Path(settings.recipe), Path(settings.out).expanduser(), num_workers=workers)
    for language in built.empty_languages:
        logger.warning("nothing was kept in %r; books.json says why", language)
    lines = [_line(step) for step in built.steps] + [f"catalogue {built.digest} in {settings.out}"]
    log.event("built", "\n".join(lines), digest=built.digest, steps=list(built.steps))
    return 0


def _line(step: Mapping[str, Any]) -> str:
    reasons = ", ".join(f"{name} {n:,}" for name, n in step.get("reasons", {}).items() if n)
    return f"{step['step']}: {step['in']:,} rows in, {step['out']:,} out" + (
        f" ({reasons})" if reasons else ""
    )


def build(path: Path, out: Path, *, num_workers: int) -> Built:
    """Build the catalogue of a recipe, or go on where an earlier build ended.

    Raises UsageError (recipe, folder), DataError (a source as a whole), DiskFullError and other
    ResourceErrors; single bad rows are counted in the books.
    """
    recipe = read_recipe(path)
    try:
        with Workers(num_workers) as workers:
            return Builder(recipe, path.absolute().parent, Work(out), workers).build()
    except DiskFullError as error:
        raise DiskFullError(
            error.what, rule=error.rule, way_out="free some space and give the same command again"
        ) from error


class Builder:
    def __init__(self, recipe: Recipe, folder: Path, work: Work, workers: Workers) -> None:
        self._recipe, self._folder, self._work = recipe, folder, work
        self._workers = workers

    def build(self) -> Built:
        inputs = inputs_of(self._recipe, self._folder)
        key = digest_of_inputs(self._recipe, inputs, rules())
        if digest := self._work.finished(key):
            return Built(digest, (), ())
        pieces = pieces_of(self._recipe, self._folder)
        check_tools(self._recipe, self._folder)  # a wrong list or hold-out is named before the work
        if self._work.begin(key):
            logger.info("going on with the work in %s", self._work.folder)
        books = self._stages(pieces)
        digest = write_manifest(
            self._work.out, self._work.packed, books, recipe=self._recipe, inputs=inputs, key=key
        )
        self._work.end()
        table = books.to_json(self._recipe, inputs)
        return Built(digest, table["steps"], table["empty_languages"])

    def _stages(self, pieces: Sequence[Piece]) -> Books:
        reads = [ReadTask(p, self._recipe, self._folder, self._work.spools) for p in pieces]
        self._do("reading", reading.read_piece, reads, reading.book_of)
        read = [_book(reading.book_of(task)) for task in reads]
        pieces_in = {
            language: [
                p for p, book in zip(pieces, read, strict=True) if language in book["languages"]
            ]
            for language in self._recipe.languages
        }
        found = {language: some for language, some in pieces_in.items() if some}
        settles = [self._settle_task(language, some) for language, some in found.items()]
        self._do("duplicates", settling.settle, settles, settling.book_of)
        settled = {task.language: _book(settling.book_of(task)) for task in settles}
        factors = self._factors(settled)
        packs = self._pack_tasks(found, settled, factors)
        self._do("packing", packing.pack, packs, packing.book_of)
        tallies = [Tally.of_json(book["tally"]) for book in read]
        return Books(
            tally=total(tallies),
            of_sources={
                source.name: total(
                    t for t, p in zip(tallies, pieces, strict=True) if p.source.name == source.name
                )
                for source in self._recipe.sources
            },
            settled=settled,
            factors=factors,
            packed={task.language: _book(packing.book_of(task)) for task in packs},
        )

    def _settle_task(self, language: str, pieces: Sequence[Piece]) -> SettleTask:
        return SettleTask(
            language,
            tuple(piece.name for piece in pieces),
            tuple(piece.source.name for piece in pieces),
            self._recipe.duplicates,
            self._work.spools,
            self._work.settled,
        )

    def _factors(self, settled: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        epochs = {source.name: source.epochs for source in self._recipe.sources}
        sizes = {
            language: sum(epochs[name] * size for name, size in book["bytes_out_of"].items())
            for language, book in settled.items()
        }
        return factors_of(sizes, self._recipe.mixture)

    def _pack_tasks(
        self,
        pieces: Mapping[str, Sequence[Piece]],
        settled: Mapping[str, Mapping[str, Any]],
        factors: Mapping[str, float],
    ) -> list[PackTask]:
        total_bytes = sum(
            factors.get(x, 0.0) * sum(book["bytes_out_of"].values()) for x, book in settled.items()
        )
        shard_bytes = max(self._recipe.packing.shard_bytes, round(total_bytes / MAX_SHARDS))
        return [
            PackTask(
                language,
                tuple(piece.name for piece in some),
                tuple(piece.source.epochs * factors[language] for piece in some),
                self._recipe.seed,
                shard_bytes,
                self._work.spools,
                self._work.settled,
                self._work.packed,
            )
            for language, some in pieces.items()
            if language in factors
        ]

    def _do(
        self,
        label: str,
        do: Callable[[Task], int],
        tasks: Sequence[Task],
        book_of: Callable[[Task], Path],
    ) -> None:
        """Those of the tasks that have no book yet."""
        left = [task for task in tasks if not book_of(task).exists()]
        sizes = [task.piece.size_bytes for task in left if isinstance(task, ReadTask)]
        whole, done = max(1, sum(sizes) or len(left)), 0
        with Bar(label) as bar:
            for number, size in enumerate(self._workers.results_of(do, left), 1):
                done += size
                bar.update(min(1.0, done / whole), tasks=f"{number}/{len(left)}")


def rules() -> str:
    """What else the output follows from: our rules, Unicode's tables, the libraries' versions."""
    versions = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    return f"rules {RULES}, Unicode {unicodedata.unidata_version}, {', '.join(versions)}"


def _book(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(path.read_bytes())
    return table
