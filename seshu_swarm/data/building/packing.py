"""One language's kept texts as shards, in an order that is random and always the same.

A text that is taken f times appears floor(f) times, and once more with the probability of what is
left. Each copy falls into a shard, and to its place there, by a hash of text, copy and seed: the
order knows neither processes nor pieces. What waits for its shard goes to disk beyond a few
megabytes. Knows no filters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.data.building.duplicates import KEPT, Fates
from seshu_swarm.data.building.settling import fates_path
from seshu_swarm.data.building.spool import Index, spool_path
from seshu_swarm.data.rolling import mixed
from seshu_swarm.errors import from_os_error
from seshu_swarm.packages import write_whole

WAITING_BYTES = 16 << 20
FACTOR = np.uint64(0x9E3779B97F4A7C15)
HEADER_BYTES = 12  # key and length of what waits

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class PackTask:
    """`times` says for each piece how often its texts are taken."""

    language: str
    pieces: tuple[str, ...]
    times: tuple[float, ...]
    seed: int
    shard_bytes: int
    spools: Path
    settled: Path
    place: Path


def book_of(task: PackTask) -> Path:
    return task.place / f"{task.language}.book.json"


def pack(task: PackTask) -> int:
    """Do the task; 1 is returned. Raises ResourceError."""
    try:
        index = Index(task.spools, task.pieces, task.language)
        raw = fates_path(task.settled, task.language).read_bytes()
        fates: Fates = np.frombuffer(raw, dtype=np.uint8)
        size_bytes = _expected_bytes(task, index, fates)
        shards = Shards(task, max(1, round(size_bytes / task.shard_bytes)))
        text_bytes = 0
        for line, keys, bytes_of_text in copies_of(task, index, fates):
            for key in keys:
                shards.add(key, line)
                text_bytes += bytes_of_text
        counts = shards.finish()
        book = {"items": counts, "rows_out": sum(counts.values()), "bytes_out": text_bytes}
        write_whole(book_of(task), json.dumps(book, sort_keys=True).encode())
    except OSError as error:
        raise from_os_error(error, str(task.place)) from error
    return 1


def _expected_bytes(task: PackTask, index: Index, fates: Fates) -> float:
    total = 0.0
    for times, start, part in zip(task.times, index.starts, index.parts, strict=True):
        mine = fates[start : start + len(part)] == KEPT
        total += times * int(part["line_bytes"][mine].sum(dtype=np.int64))
    return total


def copies_of(task: PackTask, index: Index, fates: Fates) -> Iterator[tuple[bytes, list[int], int]]:
    """Each kept text's line, the keys of its copies, and its bytes of text."""
    for piece, times, start, part in zip(
        task.pieces, task.times, index.starts, index.parts, strict=True
    ):
        digests = np.asarray(part["digest"])
        counts = num_copies(digests, times, task.seed)
        counts[fates[start : start + len(part)] != KEPT] = 0
        numbers = np.arange(1, int(counts.max(initial=0)) + 1, dtype=np.uint64)
        keys = keys_at(digests[:, None], numbers[None, :], task.seed)
        with spool_path(task.spools, piece, task.language, "jsonl").open("rb") as file:
            for k, count in enumerate(counts.tolist()):
                line = file.readline()
                if count:
                    yield line, keys[k, :count].tolist(), int(part["text_bytes"][k])


def num_copies(digests: Hashes, times: float, seed: int) -> NDArray[np.int64]:
    """How often each text is taken: `times` on average."""
    whole = int(times)
    draws = (keys_at(digests, np.uint64(0), seed) >> np.uint64(11)).astype(np.float64) / 2.0**53
    found: NDArray[np.int64] = whole + (draws < times - whole).astype(np.int64)
    return found


def keys_at(digests: Hashes, copies: Hashes | np.uint64, seed: int) -> Hashes:
    """The key of each copy, numbered from 1: it decides shard and place. Number 0 is the draw of
    who is taken once more."""
    start = np.uint64(seed % (1 << 64))
    return mixed(mixed(mixed(digests + start * FACTOR) * FACTOR + copies) * FACTOR)


@dataclass
class Shards:
    """Collects lines by shard; what waits longer than memory allows lies in files beside them."""

    task: PackTask
    num_shards: int
    waiting: dict[int, list[bytes]] = field(default_factory=dict)
    waiting_bytes: int = 0

    def __post_init__(self) -> None:
        for left_over in self.task.place.glob(f"{self.task.language}.*.waiting"):
            left_over.unlink()

    def add(self, key: int, line: bytes) -> None:
        shard = key % self.num_shards
        header = key.to_bytes(8, "big") + len(line).to_bytes(4, "big")
        self.waiting.setdefault(shard, []).append(header + line)
        self.waiting_bytes += len(line)
        if self.waiting_bytes >= WAITING_BYTES:
            self._set_aside()

    def _set_aside(self) -> None:
        for shard, found in self.waiting.items():
            with self._aside(shard).open("ab") as file:
                file.write(b"".join(found))
        self.waiting, self.waiting_bytes = {}, 0

    def _aside(self, shard: int) -> Path:
        return self.task.place / f"{self.task.language}.{shard}.waiting"

    def finish(self) -> dict[str, int]:
        """Write the shards; the items in each by its name."""
        counts: dict[str, int] = {}
        for shard in range(self.num_shards):
            held = b"".join(self.waiting.pop(shard, []))
            aside = self._aside(shard)
            if aside.exists():
                held = aside.read_bytes() + held
                aside.unlink()
            records = sorted(_records(held))
            if records:
                name = f"pretrain-{self.task.language}-{len(counts):03d}.jsonl"
                write_whole(self.task.place / name, b"".join(line for _, line in records))
                counts[name] = len(records)
        return counts


def _records(held: bytes) -> Iterator[tuple[int, bytes]]:
    """(key, line) of what was collected."""
    at = 0
    while at < len(held):
        key = int.from_bytes(held[at : at + 8], "big")
        end = at + HEADER_BYTES + int.from_bytes(held[at + 8 : at + HEADER_BYTES], "big")
        yield key, held[at + HEADER_BYTES : end]
        at = end
