"""Near copies: which items share text, found by hashes of windows of bytes.

Texts are compared casefolded, without ZWJ and ZWNJ, with single spaces. A *window* is 50 bytes
(or 13 words, where those are shorter). A text of 32 to 49 bytes is looked for whole; a shorter
one is too common to be a copy and is left to the equality of whole fields (`splits`). Knows no
languages and no parts. A wrong match (`rolling`) only removes one item too many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seshu_swarm.data.rolling import (
    BASE,
    CHUNK_BYTES,
    TABLE,
    WINDOW_BYTES,
    HashSet,
    Indices,
    Mask,
    distinct,
    hash_of,
    least_of_some,
    mixed,
    ranges,
    window_hashes,
)

WINDOW_WORDS = 13
MINIMUM_BYTES = 32
NEIGHBOURHOOD = 16  # windows of which the one with the least hash is sampled
COMMON = 32  # text that more items share is a template, a refrain or a formula

_JOINERS = ("\u200c", "\u200d")


def normalise(text: str) -> bytes:
    """The bytes that are compared."""
    for joiner in _JOINERS:
        text = text.replace(joiner, "")
    return " ".join(text.casefold().split()).encode("utf-8")


@dataclass(frozen=True)
class Field:
    """One text of item `item`. Of an `is_instruction` field, what many items share is a template."""

    item: int
    text: bytes
    is_instruction: bool = False


@dataclass(frozen=True)
class Hit:
    """Bytes `[start, end)` of a normalised field of item `item` are also a held item's."""

    item: int
    start: int
    end: int


class Texts:
    """All fields in one buffer, with the hash of every window. N: bytes, F: fields.

    `held` and `suspects` below are masks over items, of length `num_items`.
    """

    def __init__(self, fields: Sequence[Field], num_items: int) -> None:
        self.num_items = num_items
        self.buffer_N = np.frombuffer(b"\0".join(f.text for f in fields) + b"\0", dtype=np.uint8)
        lengths = np.asarray([len(f.text) for f in fields], dtype=np.int64)
        self.lengths_F = lengths
        self.starts_F: Indices = np.cumsum(lengths + 1) - lengths - 1
        self.items_F = np.asarray([f.item for f in fields], dtype=np.int64)
        self.instruction_F = np.asarray([f.is_instruction for f in fields], dtype=np.bool_)
        self._hashes_N = window_hashes(self.buffer_N)
        self._no_window_N = self._crossing()
        self._hide_templates()

    def _crossing(self) -> Mask:
        """Positions where no window of 50 bytes lies inside one field."""
        crossing = np.ones(len(self.buffer_N), dtype=np.bool_)
        for start, length in zip(self.starts_F, self.lengths_F, strict=True):
            crossing[start : start + max(0, length - WINDOW_BYTES + 1)] = False
        return crossing

    def _hide_templates(self) -> None:
        positions = self._windows_of(self.instruction_F)
        pairs = distinct(self._hashes_N[positions], self._items_at(positions))
        hashes, counts = np.unique(pairs[0], return_counts=True)
        common = hashes[counts > COMMON]
        self._no_window_N[positions[np.isin(self._hashes_N[positions], common)]] = True

    def _windows_of(self, fields_F: Mask) -> Indices:
        """Positions of the windows of some fields."""
        ends = self.starts_F + self.lengths_F - WINDOW_BYTES + 1
        chosen = fields_F & (ends > self.starts_F)
        positions = ranges(self.starts_F[chosen], ends[chosen])
        return positions[~self._no_window_N[positions]]

    def _fields_at(self, positions: Indices) -> Indices:
        return np.searchsorted(self.starts_F, positions, side="right") - 1

    def _items_at(self, positions: Indices) -> Indices:
        return self.items_F[self._fields_at(positions)]

    def neighbours(self) -> list[tuple[int, int]]:
        """Pairs of items that share sampled windows of at most `COMMON` items; most shared first.

        Chains of pairs join all items that share such a window. Windows are sampled by winnowing
        (Schleimer, Wilkerson and Aiken 2003): every shared text of 65 bytes or more is found.
        """
        positions = self._winnowed()
        hashes, items = distinct(self._hashes_N[positions], self._items_at(positions))
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        rare = np.repeat((counts > 1) & (counts <= COMMON), counts)
        heads = np.repeat(items[first], counts)
        different = rare & (heads != items)
        codes, times = np.unique(
            heads[different] * self.num_items + items[different], return_counts=True
        )
        codes = codes[np.lexsort((codes, -times))]
        return [divmod(int(code), self.num_items) for code in codes]

    def _winnowed(self) -> Indices:
        """Positions of windows with the least hash of some 16 neighbouring windows."""
        found = []
        margin = NEIGHBOURHOOD - 1
        for start in range(0, len(self.buffer_N), CHUNK_BYTES):
            low = max(0, start - margin)
            inside = slice(low, start + CHUNK_BYTES + margin)
            hashes = mixed(self._hashes_N[inside])
            hashes[self._no_window_N[inside]] = np.iinfo(np.uint64).max
            chosen = least_of_some(hashes, NEIGHBOURHOOD) & ~self._no_window_N[inside]
            positions = low + np.flatnonzero(chosen)
            found.append(positions[(positions >= start) & (positions < start + CHUNK_BYTES)])
        return np.concatenate(found)

    def hits(self, held: Mask, suspects: Mask) -> list[Hit]:
        """Where suspects share a window, or a text of 32 to 49 bytes, with a held item."""
        found = [*self._shared_windows(held, suspects), *self._shared_short_texts(held, suspects)]
        if not found:
            return []
        starts, lengths = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        fields = self._fields_at(starts)
        offsets = starts - self.starts_F[fields]
        rows = zip(self.items_F[fields], offsets, offsets + lengths, strict=True)
        return [Hit(int(item), int(start), int(end)) for item, start, end in rows]

    def _shared_windows(self, held: Mask, suspects: Mask) -> Iterator[tuple[Indices, Indices]]:
        """(starts, lengths) of the suspects' runs of windows that a held item has."""
        wanted = HashSet(self._hashes_N[self._windows_of(held[self.items_F])])
        possible_N = np.repeat(suspects[self.items_F], self.lengths_F + 1) & ~self._no_window_N
        for start in range(0, len(self.buffer_N), CHUNK_BYTES):
            candidates = start + np.flatnonzero(possible_N[start : start + CHUNK_BYTES])
            positions = candidates[wanted.positions_in(self._hashes_N[candidates])]
            is_first = np.diff(positions, prepend=-2) > 1
            starts = positions[is_first]
            is_last = np.append(is_first[1:], True)[: len(positions)]
            yield starts, positions[is_last] - starts + WINDOW_BYTES

    def _shared_short_texts(self, held: Mask, suspects: Mask) -> Iterator[tuple[Indices, Indices]]:
        """Looks for texts of less than 50 bytes where a word of a suspect begins."""
        wanted = self._short_texts(held)
        words, ends = self._words(suspects[self.items_F] & (self.lengths_F >= 1))
        hashes = np.zeros(len(words), dtype=np.uint64)
        for length in range(1, WINDOW_BYTES):
            inside = words + length <= ends
            words, ends, hashes = words[inside], ends[inside], hashes[inside]
            hashes = hashes * np.uint64(BASE) + TABLE[self.buffer_N[words + length - 1]]
            if length in wanted:
                found = words[wanted[length].positions_in(hashes)]
                yield found, np.full(len(found), length)

    def _short_texts(self, held: Mask) -> dict[int, HashSet]:
        """Length in bytes → hashes of the held texts that are looked for whole."""
        found: dict[int, set[int]] = {}
        for f in np.flatnonzero(held[self.items_F] & ~self.instruction_F):
            start, length = int(self.starts_F[f]), int(self.lengths_F[f])
            text = self.buffer_N[start : start + length].tobytes()
            for piece in short_pieces(text):
                found.setdefault(len(piece), set()).add(hash_of(piece))
        return {
            length: HashSet(np.asarray(list(hashes), dtype=np.uint64))
            for length, hashes in found.items()
        }

    def _words(self, fields_F: Mask) -> tuple[Indices, Indices]:
        """Start of every word of some fields, and the end of its field."""
        starts, lengths = self.starts_F[fields_F], self.lengths_F[fields_F]
        positions = ranges(starts, starts + lengths)
        is_start = np.isin(self.buffer_N[positions - 1], (0, 32)) | (positions == 0)
        words = positions[is_start]
        owner = self._fields_at(words)
        return words, self.starts_F[owner] + self.lengths_F[owner]


def short_pieces(text: bytes) -> list[bytes]:
    """Texts below 50 bytes that count as windows: 13 words in a row, or a whole text from 32 on."""
    pieces = []
    if MINIMUM_BYTES <= len(text) < WINDOW_BYTES:
        pieces.append(text)
    words = text.split(b" ") if text.count(b" ") >= WINDOW_WORDS - 1 else []
    for i in range(len(words) - WINDOW_WORDS + 1):
        piece = b" ".join(words[i : i + WINDOW_WORDS])
        if len(piece) < WINDOW_BYTES:
            pieces.append(piece)
    return pieces
