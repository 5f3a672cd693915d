"""Ids as arrays to train on. numpy only: knows no torch and no model.

Labels are aligned with ids (`labels[i]` is `ids[i]` or `IGNORED`): the loss shifts them by one.
N: sequences, B: rows of a batch, L: tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.data.text import Document
from seshu_swarm.data.tokeniser import Tokeniser
from seshu_swarm.errors import DataError, UsageError

IGNORED = -100
PAD = 0

Item = TypeVar("Item")


def pack_documents(
    tokeniser: Tokeniser,
    documents: Iterable[Document],
    length: int,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Documents in random order, each followed by the end token, cut to `length`: int32 (N, L).

    The last, incomplete sequence is dropped. Raises DataError if nothing is left.
    """
    found = list(documents)
    order = rng.permutation(len(found))
    pieces = [
        np.asarray([*tokeniser.encode(found[i].text), tokeniser.eos_id], dtype=np.int32)
        for i in order
    ]
    ids = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32)
    num_sequences = len(ids) // length
    if num_sequences == 0:
        raise DataError(
            f"{len(found)} documents with {len(ids)} tokens",
            rule=f"pretraining needs at least one sequence of {length} tokens",
            way_out="give more text or a shorter sequence",
        )
    return ids[: num_sequences * length].reshape(num_sequences, length)


def batch_rows(
    encoded_rows: Sequence[tuple[list[int], int]],
    max_tokens_per_batch: int,
    rng: np.random.Generator,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """One pass over `(ids, num_prompt_tokens)`: pairs `(ids_BL, labels_BL)`, both int64.

    Rows of like length share a batch, batches come in random order; ids are padded with 0, labels
    with -100; prompts have labels -100. B times L is at most `max_tokens_per_batch`; UsageError
    for a longer row.
    """
    if not encoded_rows:
        return
    lengths = np.asarray([len(ids) for ids, _ in encoded_rows])
    if lengths.max() > max_tokens_per_batch:
        raise UsageError(
            f"a row of {lengths.max()} tokens in batches of {max_tokens_per_batch}",
            rule="a batch holds at least one whole row",
            way_out="encode rows with a smaller max_tokens",
        )
    order = np.lexsort((rng.random(len(lengths)), lengths))
    buckets = _buckets(lengths[order], max_tokens_per_batch)
    for k in rng.permutation(len(buckets)):
        start, end = buckets[k]
        yield _padded([encoded_rows[i] for i in order[start:end]])


def _buckets(sorted_lengths: NDArray[Any], max_tokens: int) -> list[tuple[int, int]]:
    """Half-open intervals of rows whose count times longest row fits."""
    buckets, start = [], 0
    for i, length in enumerate(sorted_lengths):
        if (i - start + 1) * int(length) > max_tokens:
            buckets.append((start, i))
            start = i
    return [*buckets, (start, len(sorted_lengths))]


def _padded(
    rows: Sequence[tuple[list[int], int]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    shape = (len(rows), max(len(ids) for ids, _ in rows))
    ids_BL = np.full(shape, PAD, dtype=np.int64)
    labels_BL = np.full(shape, IGNORED, dtype=np.int64)
    for b, (ids, num_prompt_tokens) in enumerate(rows):
        ids_BL[b, : len(ids)] = ids
        labels_BL[b, num_prompt_tokens : len(ids)] = ids[num_prompt_tokens:]
    return ids_BL, labels_BL


def mixture(sizes: Mapping[str, float], power: float = 0.5) -> dict[str, float]:
    """Share of each language: p ∝ n^power (temperature sampling); languages with n = 0 get 0."""
    weights = {name: float(size) ** power if size > 0 else 0.0 for name, size in sizes.items()}
    total = sum(weights.values())
    if total <= 0:
        raise DataError("no text in any language", rule="a mixture needs at least one item")
    return {name: weight / total for name, weight in weights.items()}


def mix(
    items: Mapping[str, Sequence[Item]],
    num_items: int,
    rng: np.random.Generator,
    *,
    size_of: Callable[[Item], int],
    power: float = 0.5,
) -> list[Item]:
    """`num_items` items in which each language has its share of the total size (`mixture`).

    A language's items come in random order, all once before any comes again.
    """
    total = {name: float(sum(size_of(item) for item in found)) for name, found in items.items()}
    shares = mixture(total, power)
    # Shares are of bytes: a language with long items is drawn less often.
    draws = {name: p * len(items[name]) / total[name] for name, p in shares.items() if p}
    names, weights = list(draws), np.asarray(list(draws.values()))
    endless = {name: _endless(items[name], rng) for name in names}
    chosen = rng.choice(len(names), size=num_items, p=weights / weights.sum())
    return [next(endless[names[k]]) for k in chosen]


def _endless(items: Sequence[Item], rng: np.random.Generator) -> Iterator[Item]:
    while True:
        for i in rng.permutation(len(items)):
            yield items[i]
