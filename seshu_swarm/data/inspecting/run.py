"""`python -m seshu_swarm data inspect SOURCE`: numbers, samples and plots, in one pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seshu_swarm.data.inspecting.config import DataInspectConfig
from seshu_swarm.data.inspecting.kept import Kept, kept_of
from seshu_swarm.data.inspecting.reading import Item, files_of, items_of
from seshu_swarm.data.inspecting.showing import shown
from seshu_swarm.data.inspecting.summary import Summary
from seshu_swarm.errors import DataError
from seshu_swarm.packages import write_whole
from seshu_swarm.program import log
from seshu_swarm.program.progress import Bar
from seshu_swarm.program.reports import check_place

ITEMS_PER_UPDATE = 512


def run(settings: DataInspectConfig) -> int:
    """Raises DataError for a source without a text, with what was left out of it."""
    if settings.json:
        check_place(Path(settings.json))
    source = Path(settings.source).expanduser()
    kept, summary = kept_of(source), _summary(settings, source)
    if not summary.languages:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.bad.items()))
        places = "; ".join(place for found in summary.examples.values() for place in found)
        raise DataError(
            f"{source} holds no text" + (f": {counts} ({places[:300]})" if counts else ""),
            rule="a text is in the column text, output, tgt or messages",
            way_out="name the column with --column",
        )
    table: dict[str, Any] = {
        "source": settings.source,
        "languages": summary.numbers(),
        "left_out": dict(sorted(summary.bad.items())),
        "examples": summary.examples,
        "kept": {language: _kept(found) for language, found in kept.items()},
    }
    if settings.plots:
        table["plots"] = _plot(Path(settings.plots).expanduser(), summary, kept)
    if settings.json:
        text = json.dumps(table, ensure_ascii=False, indent=2)
        write_whole(Path(settings.json), text.encode("utf-8"))
    log.event("inspect", shown(summary, kept), **table)
    return 0


def _summary(settings: DataInspectConfig, source: Path) -> Summary:
    summary = Summary(num_samples=settings.samples, seed=settings.seed)
    files = files_of(source)
    with Bar("reading") as bar:
        for number, file in enumerate(files):
            for k, item in enumerate(items_of(file, column=settings.column)):
                summary.add(item)
                if k % ITEMS_PER_UPDATE == 0 and isinstance(item, Item):
                    bar.update((number + item.at) / len(files))
    return summary


def _kept(found: Kept) -> dict[str, Any]:
    return {
        "read": found.read,
        "after_filters": found.filtered,
        "after_duplicates": found.unique,
        "share": found.share,
        "reasons": dict(found.reasons),
    }


def _plot(folder: Path, summary: Summary, kept: dict[str, Kept]) -> list[str]:
    """Write the plots; their paths."""
    from seshu_swarm.data.inspecting import picture

    pictures = {
        "lengths.png": picture.lengths(summary.languages),
        "duplicates.png": picture.duplicates(summary.languages),
    }
    if kept:
        pictures["kept.png"] = picture.kept(kept)
    for name, data in pictures.items():
        write_whole(folder / name, data)
    return [str(folder / name) for name in pictures]
