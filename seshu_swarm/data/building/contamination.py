"""Text that hold-outs have: which documents of a batch may share some, and what is left of them.

What sharing means is said in `overlap`: 50 bytes, 13 words, or a whole text from 32 bytes on. That
module compares two sets at once; here the hold-outs are hashed once, each batch is looked through
for their windows, and only documents that show one are handed on to `decontaminate.clean`. N: bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.data.decontaminate import clean
from seshu_swarm.data.groups import Item, fields_of, keys_of
from seshu_swarm.data.holdout import item_of
from seshu_swarm.data.jsonl import read_items
from seshu_swarm.data.overlap import MINIMUM_BYTES, normalise, short_pieces
from seshu_swarm.data.rolling import BASE, TABLE, WINDOW_BYTES, Hashes, HashSet, hash_of
from seshu_swarm.data.text import Document
from seshu_swarm.errors import DataError

INVERSE = pow(BASE, -1, 1 << 64)
UNDETERMINED = "und"
SMALLEST_POWERS = 1 << 20


def read_holdouts(paths: Iterable[Path]) -> list[Item]:
    """Items of held-out sets, and of evaluation sets of any shape: there every longer text counts.

    Raises DataError for a line that is no JSON object and for a file without text.
    """
    items: list[Item] = []
    for path in paths:
        try:
            found = read_items(path, _items_of, bad_rows="refuse")
        except DataError as error:
            # Its own way out is that of rows to train on.
            raise DataError(error.what, rule=error.rule, way_out="correct the hold-out") from None
        if not any(found):
            raise DataError(f"{path} holds no text to keep apart", rule="JSON lines with text")
        items += [item for some in found for item in some]
    return items


def _items_of(table: Mapping[str, Any]) -> list[Item]:
    try:
        return [item_of(table)]
    except DataError:
        texts = [v for v in _texts(table) if len(v.encode("utf-8", "replace")) >= MINIMUM_BYTES]
        return [Document("evaluation", UNDETERMINED, text) for text in texts]


def _texts(value: Any) -> Iterable[str]:
    """All texts in a table, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


class Holdouts:
    """The precious items, hashed once; `taken_from` is asked batch by batch."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = list(items)
        texts = {field.text for field in fields_of(items)}
        self._whole = {bytes(part) for item in items for _, part in keys_of(item)}
        windows = [_windows(text) for text in texts]
        self._windows = HashSet(np.concatenate(windows)) if windows else None
        short: dict[int, set[int]] = {}
        for text in texts:
            for piece in short_pieces(text):
                short.setdefault(len(piece), set()).add(hash_of(piece))
        self._short = {
            length: HashSet(np.asarray(sorted(found), dtype=np.uint64))
            for length, found in short.items()
        }

    def taken_from(self, documents: Sequence[Document]) -> dict[int, list[Document]]:
        """Number of each document that shares text → what is left of it."""
        if self._windows is None or not documents:
            return {}
        suspects = self._suspects([normalise(document.text) for document in documents])
        if not suspects:
            return {}
        numbered = [Document(str(i), documents[i].language, documents[i].text) for i in suspects]
        kept, _ = clean(numbered, self._items)
        left: dict[int, list[Document]] = {i: [] for i in suspects}
        for item in kept:
            if isinstance(item, Document):
                left[int(item.id)].append(item)
        texts = {i: [part.text for part in parts] for i, parts in left.items()}
        return {i: left[i] for i in suspects if texts[i] != [documents[i].text]}

    def _suspects(self, texts: Sequence[bytes]) -> list[int]:
        buffer_N = np.frombuffer(b"\0".join(texts) + b"\0", dtype=np.uint8)
        sums = _sums(buffer_N)
        lengths = np.asarray([len(text) for text in texts], dtype=np.int64)
        starts = np.cumsum(lengths + 1) - lengths - 1
        found = {i for i, text in enumerate(texts) if text in self._whole}
        positions = [self._window_hits(buffer_N, sums), *self._short_hits(buffer_N, sums)]
        hits = np.concatenate(positions)
        found.update((np.searchsorted(starts, hits, side="right") - 1).tolist())
        return sorted(found)

    def _window_hits(self, buffer_N: NDArray[np.uint8], sums: Hashes) -> NDArray[np.int64]:
        """Where a held window begins; those that cross two texts hold a NUL, and no text does."""
        at = np.arange(max(0, len(buffer_N) - WINDOW_BYTES), dtype=np.int64)
        if self._windows is None:
            return at[:0]
        hashes = (sums[WINDOW_BYTES:-1] - sums[: -WINDOW_BYTES - 1]) * _powers(len(sums))[0][
            WINDOW_BYTES - 1 : len(sums) - 2
        ]
        return self._windows.positions_in(hashes)

    def _short_hits(self, buffer_N: NDArray[np.uint8], sums: Hashes) -> Iterable[NDArray[np.int64]]:
        """Where a held text or run of words of less than 50 bytes begins, at a word's beginning."""
        is_start = np.isin(np.concatenate(([0], buffer_N[:-1])), (0, 32))
        words = np.flatnonzero(is_start)
        powers = _powers(len(sums))[0]
        for length, wanted in self._short.items():
            at = words[words + length < len(buffer_N)]
            yield at[wanted.positions_in((sums[at + length] - sums[at]) * powers[at + length - 1])]


def _sums(buffer_N: NDArray[np.uint8]) -> Hashes:
    """S with (S[i + n] - S[i]) · BASE^(i + n - 1) = `hash_of` of the n bytes from i on, mod 2^64."""
    sums = np.zeros(len(buffer_N) + 1, dtype=np.uint64)
    np.cumsum(TABLE[buffer_N] * _powers(len(sums))[1][: len(buffer_N)], out=sums[1:])
    return sums


def _windows(text: bytes) -> Hashes:
    sums = _sums(np.frombuffer(text, dtype=np.uint8))
    if len(text) < WINDOW_BYTES:
        return sums[:0]
    powers = _powers(len(sums))[0]
    found: Hashes = (sums[WINDOW_BYTES:] - sums[:-WINDOW_BYTES]) * powers[
        WINDOW_BYTES - 1 : len(text)
    ]
    return found


def _powers(length: int) -> tuple[Hashes, Hashes]:
    """BASE^i and BASE^-i modulo 2^64, for at least `length` values of i."""
    return _powers_of_size(max(SMALLEST_POWERS, 1 << length.bit_length()))


@lru_cache(maxsize=1)
def _powers_of_size(length: int) -> tuple[Hashes, Hashes]:
    def powers(base: int) -> Hashes:
        factors = np.full(length, base, dtype=np.uint64)
        factors[0] = 1
        found: Hashes = np.cumprod(factors)
        return found

    return powers(BASE), powers(INVERSE)
