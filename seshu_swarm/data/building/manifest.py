"""The finished catalogue: shards moved into place, the books beside them, all under one digest.

`books.json` says for every step what went in and out, and why; `recipe.json` is the recipe with its
defaults. No time, no path and no number of processes is in them: the same recipe and inputs give
the same digest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm.data.building.recipe import Recipe
from seshu_swarm.data.building.tally import Tally
from seshu_swarm.data.catalogue import KIND
from seshu_swarm.errors import DataError, from_os_error
from seshu_swarm.packages import seal, write_whole

BOOKS, RECIPE = "books.json", "recipe.json"


@dataclass(frozen=True)
class Books:
    """What a build did, step by step. `settled` and `packed` are the languages' own books."""

    tally: Tally
    of_sources: Mapping[str, Tally]
    settled: Mapping[str, Mapping[str, Any]]
    factors: Mapping[str, float]
    packed: Mapping[str, Mapping[str, Any]]

    def steps(self) -> list[dict[str, Any]]:
        """Rows in and out of each step, with the reasons of those that went."""
        read, kept = self.tally.read.total(), self.tally.kept.total()
        added = self.tally.flags["parts_added"]
        reasons: dict[str, int] = {}
        for counts in self.tally.out.values():
            for reason, count in counts.items():
                reasons[reason] = reasons.get(reason, 0) + count
        unique = sum(book["rows_out"] for book in self.settled.values())
        repeats: dict[str, int] = {}
        for book in self.settled.values():
            for reason, count in book["out"].items():
                repeats[reason] = repeats.get(reason, 0) + count
        packed = sum(book["rows_out"] for book in self.packed.values())
        return [
            {"step": "read", "in": read, "added": added, "out": kept, "reasons": reasons},
            {"step": "duplicates", "in": kept, "added": 0, "out": unique, "reasons": repeats},
            {"step": "mixture", "in": unique, "added": packed - unique, "out": packed},
        ]

    def to_json(self, recipe: Recipe, inputs: Mapping[str, str]) -> dict[str, Any]:
        empty = [x for x in recipe.languages if not self.packed.get(x, {}).get("rows_out")]
        return {
            "steps": self.steps(),
            "read": self.tally.to_json(),
            "sources": {
                source.name: {
                    "licence": source.terms,
                    "epochs": source.epochs,
                    **self.of_sources[source.name].to_json(),
                }
                for source in recipe.sources
            },
            "duplicates": dict(sorted(self.settled.items())),
            "mixture": dict(sorted(self.factors.items())),
            "packed": dict(sorted(self.packed.items())),
            "empty_languages": empty,
            "inputs": dict(sorted(inputs.items())),
        }


def write_manifest(
    out: Path, packed: Path, books: Books, *, recipe: Recipe, inputs: Mapping[str, str], key: str
) -> str:
    """Move the shards into `out` and seal them; the catalogue's digest is returned.

    May be called again after it was cut short. Raises DataError where nothing was kept,
    ResourceError.
    """
    items: dict[str, int] = {}
    for book in books.packed.values():
        items |= book["items"]
    if not items:
        raise DataError(
            f"nothing was kept of {books.tally.read.total()} rows: {_why(books)}",
            rule="a catalogue needs at least one shard",
            way_out="look at the reasons, and at the recipe's filters",
        )
    try:
        for name in items:
            if (packed / name).exists():
                os.replace(packed / name, out / name)
    except OSError as error:
        raise from_os_error(error, str(out)) from error
    table = books.to_json(recipe, inputs)
    write_whole(out / BOOKS, _json(table))
    write_whole(out / RECIPE, _json(recipe.model_dump(mode="json")))
    licences = {source.name: source.terms for source in recipe.sources}
    about = {
        "items": items,
        "key": key,
        "licence": ", ".join(sorted(set(licences.values()))),
        "licences": licences,
        "steps": table["steps"],
        "empty_languages": table["empty_languages"],
    }
    return seal(out, KIND, [*items, BOOKS, RECIPE], about)


def _why(books: Books) -> str:
    reasons = books.steps()[0]["reasons"]
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())) or "no rows"


def _json(table: Mapping[str, Any]) -> bytes:
    return json.dumps(table, sort_keys=True, indent=1, ensure_ascii=False).encode("utf-8")
