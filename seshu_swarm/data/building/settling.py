"""One language, once all pieces are read: which of its texts repeat others.

    LANGUAGE.fates      a byte per text: kept, or why not
    LANGUAGE.book.json  rows in and out; bytes kept of each source

Knows the spools; knows no other language.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seshu_swarm.data.building.duplicates import (
    KEPT,
    REASONS,
    Fates,
    exact_duplicates,
    mark_near_duplicates,
)
from seshu_swarm.data.building.recipe import Duplicates
from seshu_swarm.data.building.spool import Index
from seshu_swarm.errors import from_os_error
from seshu_swarm.packages import write_whole


@dataclass(frozen=True)
class SettleTask:
    """`pieces` are names, `sources` the source of each. `spools` and `place` are folders."""

    language: str
    pieces: tuple[str, ...]
    sources: tuple[str, ...]
    duplicates: Duplicates
    spools: Path
    place: Path


def book_of(task: SettleTask) -> Path:
    return task.place / f"{task.language}.book.json"


def fates_path(place: Path, language: str) -> Path:
    return place / f"{language}.fates"


def settle(task: SettleTask) -> int:
    """Do the task; 1 is returned. Raises ResourceError."""
    try:
        index = Index(task.spools, task.pieces, task.language)
        fates = _fates(index, task.duplicates)
        write_whole(fates_path(task.place, task.language), fates.tobytes())
        table = _book(task, index, fates)
        write_whole(book_of(task), json.dumps(table, sort_keys=True).encode())
    except OSError as error:
        raise from_os_error(error, str(task.place)) from error
    return 1


def _fates(index: Index, duplicates: Duplicates) -> Fates:
    fates = exact_duplicates(index) if duplicates.exact else np.zeros(len(index), dtype=np.uint8)
    if duplicates.near:
        mark_near_duplicates(index, fates, at_least=duplicates.similarity)
    return fates


def _book(task: SettleTask, index: Index, fates: Fates) -> dict[str, object]:
    kept_bytes: Counter[str] = Counter()
    for source, start, part in zip(task.sources, index.starts, index.parts, strict=True):
        mine = fates[start : start + len(part)] == KEPT
        kept_bytes[source] += int(part["text_bytes"][mine].sum(dtype=np.int64))
    return {
        "rows_in": len(index),
        "rows_out": int(np.count_nonzero(fates == KEPT)),
        "bytes_in": int(sum(int(part["text_bytes"].sum(dtype=np.int64)) for part in index.parts)),
        "bytes_out_of": dict(kept_bytes),
        "out": {name: int(np.count_nonzero(fates == code)) for code, name in REASONS.items()},
    }
