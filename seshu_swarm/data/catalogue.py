"""Shards of training text as a package, dealt to donors who bring none.

    hi-000.jsonl            rows to fine-tune on             {"instruction", "input", "output", "language"}
    pretrain-hi-000.jsonl   documents to pretrain on         {"id", "language", "text"}

The package has kind `catalogue`; its `about` counts the items of each shard. Which shard a peer
gets is a pure function of its id and the round, so that nobody has to hand it out. Knows no
network. What is read here came from another machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from seshu_swarm.data.jsonl import document_line, document_of, read_items, row_line, row_of
from seshu_swarm.data.text import Document, Row, check_language
from seshu_swarm.errors import DataError, UsageError, from_os_error
from seshu_swarm.packages import Manifest, seal, write_whole

KIND = "catalogue"
ROWS_PER_SHARD = 500
BYTES_PER_SHARD = 1 << 20
MAX_SHARD_BYTES = 64 << 20
MAX_ITEM_BYTES = 1 << 18
SHARD_NAME = re.compile(r"(?:pretrain-)?(?P<language>[A-Za-z_-]+)-\d{3,}\.jsonl")

Item = TypeVar("Item", Row, Document)


def write_catalogue(
    folder: Path,
    shards: Mapping[str, Sequence[Row]],
    rows_per_shard: int = ROWS_PER_SHARD,
    *,
    documents: Mapping[str, Sequence[Document]] | None = None,
    bytes_per_shard: int = BYTES_PER_SHARD,
) -> str:
    """Write rows (and documents to pretrain on) per language as a package; its digest is returned.

    Rows are spread evenly over as few shards as hold at most `rows_per_shard` each; documents
    fill shards of about `bytes_per_shard`.
    """
    if rows_per_shard < 1 or bytes_per_shard < 1:
        raise UsageError("an empty shard", rule="at least one row and one byte per shard")
    counts: dict[str, int] = {}
    for language, rows in sorted(shards.items()):
        lines = [row_line(row) for row in rows]
        counts |= _write(folder, check_language(language), _even(lines, rows_per_shard))
    for language, found in sorted((documents or {}).items()):
        lines = [document_line(document) for document in found]
        name = f"pretrain-{check_language(language)}"
        counts |= _write(folder, name, _filled(lines, bytes_per_shard))
    if not counts:
        raise DataError("a catalogue without rows", rule="at least one shard")
    return seal(folder, KIND, counts, {"items": counts})


def _write(folder: Path, name: str, shards: Iterator[list[str]]) -> dict[str, int]:
    counts = {}
    for number, lines in enumerate(shards):
        file = f"{name}-{number:03d}.jsonl"
        write_whole(folder / file, "".join(lines).encode("utf-8"))
        counts[file] = len(lines)
    return counts


def _even(lines: Sequence[str], most: int) -> Iterator[list[str]]:
    num_shards = -(-len(lines) // most)
    for k in range(num_shards):
        yield list(lines[k::num_shards])


def _filled(lines: Sequence[str], size_bytes: int) -> Iterator[list[str]]:
    shard: list[str] = []
    filled_bytes = 0
    for line in lines:
        shard.append(line)
        filled_bytes += len(line.encode("utf-8"))
        if filled_bytes >= size_bytes:
            yield shard
            shard, filled_bytes = [], 0
    if shard:
        yield shard


def shards_of(manifest: Manifest, language: str, *, pretrain: bool = False) -> tuple[str, ...]:
    """Names of a language's shards, sorted. Raises DataError, with the languages there are."""
    wanted = f"pretrain-{language}" if pretrain else language
    names = sorted(name for name in manifest.files if SHARD_NAME.fullmatch(name))
    found = tuple(name for name in names if name.rpartition("-")[0] == wanted)
    if found:
        return found
    prefixes = sorted({name.rpartition("-")[0] for name in names})
    known = ", ".join(p for p in prefixes if p.startswith("pretrain-") == pretrain)
    raise DataError(
        f"the catalogue has no shard of {wanted!r}; it has {known or 'none'}",
        rule="a shard is dealt from the run's own languages",
        way_out="choose one of them, or train on your own text with --data",
    )


def deal(peer_id: str, round_index: int, names: Sequence[str]) -> str:
    """The shard of a peer in a round. Raises DataError where there is none.

    Every `len(names)` rounds a peer goes through all shards in a new order of its own, by SHA-256
    of peer, cycle and name; so all shards are used evenly over peers and over rounds.
    """
    if not names:
        raise DataError("no shard to deal", rule="the catalogue needs at least one")
    cycle, turn = divmod(round_index, len(names))

    def draw(name: str) -> bytes:
        return hashlib.sha256(f"{peer_id}\n{cycle}\n{name}".encode()).digest()

    return sorted(names, key=draw)[turn]


def read_shard(path: Path) -> list[Row]:
    """Rows of a shard, strictly: all must be whole, small enough, and in the shard's language."""
    return _read(path, row_of, {"instruction", "input", "output", "language"})


def read_pretrain_shard(path: Path) -> list[Document]:
    """Documents of a shard, as strictly."""
    return _read(path, document_of, {"id", "language", "text"})


def _read(path: Path, make: Callable[[Mapping[str, Any]], Item], keys: set[str]) -> list[Item]:
    matched = SHARD_NAME.fullmatch(path.name)
    if not matched:
        raise DataError(f"{path.name[:80]!r} is no shard", rule="LANGUAGE-NUMBER.jsonl")
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise from_os_error(error, str(path)) from error
    if size_bytes > MAX_SHARD_BYTES:
        raise DataError(f"{path} has {size_bytes} bytes", rule=f"at most {MAX_SHARD_BYTES}")

    def strict(table: Mapping[str, Any]) -> Item:
        if table.keys() != keys:
            raise DataError(f"keys {sorted(table)[:8]}", rule=f"exactly {sorted(keys)}")
        if sum(len(str(value)) for value in table.values()) > MAX_ITEM_BYTES:
            raise DataError("a row that is too large", rule=f"at most {MAX_ITEM_BYTES} characters")
        item = make(table)
        if item.language != matched["language"]:
            raise DataError(f"a row in {item.language!r}", rule="the language of the shard's name")
        return item

    return read_items(path, strict, bad_rows="refuse")
