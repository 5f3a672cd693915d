"""An interpolated byte n-gram that predicts each byte from all bytes before it, then learns it.

Witten and Bell (1991): a context seen n times with T different bytes after it gives the byte b

    p(b | context) = (count(b) + T · p(b | shorter context)) / (n + T)

down to 1/256. Counts are those before each byte, of training text and scored text alike, so nothing
is fitted and no byte is predicted from itself. A text's first bytes see that it begins there.

Arrays are over all bytes in the order they are read; shapes: N bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.evaluate.bits import Nats

BEGIN = 256
SYMBOL_BITS = 9
UNIFORM = 1 / 256

Ints = NDArray[np.int64]


def ngram_nats(train: Sequence[bytes], texts: Sequence[bytes], *, order: int = 5) -> Nats:
    """Nats of each text, shape (num_texts,). `order` 5 sees four bytes of context."""
    symbols, places, owners = _laid_out([*train, *texts], order - 1)
    probability_N = np.full(len(places), UNIFORM)
    context_N = np.zeros(len(places), dtype=np.int64)
    for length in range(order):
        if length:
            context_N = _numbered((context_N << SYMBOL_BITS) | symbols[places - length])
        probability_N = _interpolated(context_N, symbols[places], probability_N)
    nats = np.zeros(len(train) + len(texts))
    np.add.at(nats, owners, -np.log(probability_N))
    return nats[len(train) :]


def _laid_out(texts: Sequence[bytes], padding: int) -> tuple[Ints, Ints, Ints]:
    """All symbols with beginnings, where the bytes are among them, and whose they are."""
    begin = np.full(padding, BEGIN, dtype=np.int64)
    parts, places, owners, offset = [], [], [], 0
    for index, text in enumerate(texts):
        data = np.frombuffer(text, dtype=np.uint8).astype(np.int64)
        parts += [begin, data]
        places.append(offset + padding + np.arange(len(data)))
        owners.append(np.full(len(data), index))
        offset += padding + len(data)
    empty = np.zeros(0, dtype=np.int64)
    return tuple(np.concatenate([empty, *one]) for one in (parts, places, owners))  # type: ignore[return-value]


def _interpolated(
    context_N: Ints, byte_N: Ints, shorter_N: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The estimate of one length of context over that of the shorter one."""
    seen_N = _times_before((context_N << SYMBOL_BITS) | byte_N)
    total_N = _times_before(context_N)
    kinds_N = _sum_before(context_N, seen_N == 0)
    # A context that is met for the first time says nothing: T of 1 passes the shorter one through.
    weight_N = np.maximum(kinds_N, 1)
    result: NDArray[np.float64] = (seen_N + weight_N * shorter_N) / (total_N + weight_N)
    return result


def _numbered(keys_N: Ints) -> Ints:
    """Small numbers for large keys, so that a longer key still fits 64 bits."""
    return np.unique(keys_N, return_inverse=True)[1].astype(np.int64)


def _times_before(keys_N: Ints) -> Ints:
    """How often each key has come before its place."""
    return _sum_before(keys_N, np.ones(len(keys_N), dtype=bool))


def _sum_before(keys_N: Ints, flags_N: NDArray[np.bool_]) -> Ints:
    """How many flags stand before each place among the places of its key."""
    order = np.argsort(keys_N, kind="stable")
    flagged = flags_N[order].astype(np.int64)
    before = np.cumsum(flagged) - flagged
    starts = np.flatnonzero(np.diff(keys_N[order], prepend=-1))
    lengths = np.diff(starts, append=len(order))
    result = np.empty_like(before)
    result[order] = before - np.repeat(before[starts], lengths)
    return result
