"""Hashes of all windows of a text at once, and what is asked of many hashes.

A hash is a polynomial modulo 2^64 over random values per byte. Of 10^8 different windows two agree
with a probability below 10^-3. numpy only; knows no items. N: bytes.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

WINDOW_BYTES = 50
CHUNK_BYTES = 1 << 20

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

BASE = 0x9E3779B97F4A7C15 | 1
TABLE = np.asarray(
    [int.from_bytes(hashlib.sha256(bytes([b])).digest()[:8], "little") for b in range(256)],
    dtype=np.uint64,
)


def hash_of(text: bytes) -> int:
    """The same hash of one text of any length."""
    value = 0
    for byte in text:
        value = (value * BASE + int(TABLE[byte])) % (1 << 64)
    return value


def window_hashes(buffer_N: NDArray[np.uint8]) -> Hashes:
    """Hash of the 50 bytes from each position on (meaningless where fewer are left)."""
    hashes_N = np.zeros(len(buffer_N), dtype=np.uint64)
    for start in range(0, len(buffer_N), CHUNK_BYTES):
        piece = TABLE[buffer_N[start : start + CHUNK_BYTES + WINDOW_BYTES - 1]]
        found = _rolling(piece)[:CHUNK_BYTES]
        hashes_N[start : start + len(found)] = found
    return hashes_N


def _rolling(values: Hashes) -> Hashes:
    """Polynomial over 50 neighbours, from those over 2, 16 and 32 (50 = 32 + 16 + 2)."""
    if len(values) < WINDOW_BYTES:
        return np.empty(0, dtype=np.uint64)
    of_length = {1: values}
    for length in (1, 2, 4, 8, 16):
        of_length[2 * length] = _joined(of_length[length], length, of_length[length], length)
    return _joined(_joined(of_length[32], 32, of_length[16], 16), 48, of_length[2], 2)


def _joined(left: Hashes, left_length: int, right: Hashes, right_length: int) -> Hashes:
    """Hash of `left_length` bytes and the `right_length` bytes after them, at each position."""
    size = min(len(left), len(right) - left_length)
    factor = np.uint64(pow(BASE, right_length, 1 << 64))
    return left[:size] * factor + right[left_length : left_length + size]


def mixed(hashes: Hashes) -> Hashes:
    """Spread the high bits of each hash: its low bits depend on low bits of the input only."""
    return (hashes ^ (hashes >> np.uint64(32))) * np.uint64(BASE)


def least_of_some(hashes: Hashes, width: int) -> Mask:
    """Positions that hold the least of at least one run of `width` (a power of two) positions."""
    padded = np.pad(hashes, width - 1, constant_values=np.iinfo(np.uint64).max)
    least = _over_runs(np.minimum, padded, width)  # of the run that begins at each padded position
    return np.equal(_over_runs(np.maximum, least, width), hashes)


def _over_runs(ufunc: np.ufunc, values: Hashes, width: int) -> Hashes:
    """`ufunc` over each run of `width` values: `len(values) - width + 1` results."""
    length = 1
    while length < width:
        values = ufunc(values[:-length], values[length:])
        length *= 2
    return values


def distinct(hashes: Hashes, items: Indices) -> tuple[Hashes, Indices]:
    """The distinct (hash, item) pairs, sorted by hash, then by item."""
    order = np.lexsort((items, hashes))
    hashes, items = hashes[order], items[order]
    new = np.ones(len(hashes), dtype=np.bool_)
    new[1:] = (hashes[1:] != hashes[:-1]) | (items[1:] != items[:-1])
    return hashes[new], items[new]


class HashSet:
    """Membership in a set of hashes; a bitmap spares most of the searching."""

    def __init__(self, hashes: Hashes) -> None:
        self._sorted = np.sort(hashes)  # np.unique hashes again and is several times slower
        num_bits = min(26, max(16, 5 + len(hashes).bit_length()))
        self._shift = np.uint64(64 - num_bits)
        self._bitmap = np.zeros(1 << num_bits, dtype=np.bool_)
        self._bitmap[self._sorted >> self._shift] = True

    def positions_in(self, hashes: Hashes) -> Indices:
        """Positions of `hashes` that hold a member."""
        maybe = np.flatnonzero(self._bitmap[hashes >> self._shift])
        if not len(maybe):
            return maybe
        at = np.minimum(np.searchsorted(self._sorted, hashes[maybe]), len(self._sorted) - 1)
        is_member: Mask = self._sorted[at] == hashes[maybe]
        return maybe[is_member]


def ranges(starts: Indices, ends: Indices) -> Indices:
    """All numbers of the half-open intervals, one interval after the other."""
    lengths = ends - starts
    if not len(lengths):
        return np.empty(0, dtype=np.int64)
    before: Indices = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return before + np.arange(int(lengths.sum()), dtype=np.int64)
