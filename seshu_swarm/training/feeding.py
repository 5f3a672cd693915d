"""Microbatches by number: of rows, of running text, and of both interleaved.

The same seed and number always give the same microbatch, so that training resumes where it was. A
*pass* goes over everything once in an order of its own. numpy only; knows no model.

Shapes: B batch, L length, N sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.data.batches import batch_rows, mix, pack_documents
from seshu_swarm.data.text import Document
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.training.loop import Batch, Batches


class RowBatches:
    """Encoded rows `(ids, num_prompt_tokens)`, at most `max_tokens` ids to a microbatch.

    Raises UsageError for a row that is longer.
    """

    def __init__(
        self, encoded_rows: Sequence[tuple[list[int], int]], *, max_tokens: int, seed: int
    ) -> None:
        self._rows, self._max_tokens, self._seed = encoded_rows, max_tokens, seed
        self._pass_index = 0
        self._pass = self._shuffled(0)

    def __call__(self, index: int) -> Batch:
        # Rows of one length class always fill the same number of batches, in every pass.
        pass_index, k = divmod(index, len(self._pass))
        if pass_index != self._pass_index:
            self._pass_index, self._pass = pass_index, self._shuffled(pass_index)
        return self._pass[k]

    def _shuffled(self, pass_index: int) -> list[Batch]:
        rng = np.random.default_rng([self._seed, pass_index])
        return list(batch_rows(self._rows, self._max_tokens, rng))


class TextBatches:
    """Packed sequences (N, L) of each language, mixed by `power`: p ∝ n^power."""

    def __init__(
        self,
        sequences: Mapping[str, NDArray[np.int32]],
        *,
        batch_size: int,
        seed: int,
        power: float = 0.5,
    ) -> None:
        self._sequences, self._batch_size = sequences, batch_size
        self._seed, self._power = seed, power
        num_sequences = sum(len(found) for found in sequences.values())
        self._num_batches = max(1, num_sequences // batch_size)
        self._pass_index = 0
        self._pass = self._mixed(0)

    def __call__(self, index: int) -> Batch:
        pass_index, k = divmod(index, self._num_batches)
        if pass_index != self._pass_index:
            self._pass_index, self._pass = pass_index, self._mixed(pass_index)
        chosen = self._pass[k * self._batch_size : (k + 1) * self._batch_size]
        ids_BL = np.stack([self._sequences[language][n] for language, n in chosen]).astype(np.int64)
        return ids_BL, ids_BL

    def _mixed(self, pass_index: int) -> list[tuple[str, int]]:
        items = {name: [(name, n) for n in range(len(f))] for name, f in self._sequences.items()}
        return mix(
            items,
            self._num_batches * self._batch_size,
            np.random.default_rng([self._seed, pass_index]),
            size_of=lambda item: 1,
            power=self._power,
        )


def packed_text(
    documents: Mapping[str, Sequence[Document]],
    *,
    batch_size: int,
    length: int,
    seed: int,
    power: float = 0.5,
) -> TextBatches:
    """Microbatches of documents by language, packed as bytes. Raises DataError where one language has
    less than one sequence."""
    rng = np.random.default_rng(seed)
    tokeniser = ByteTokeniser()
    sequences = {
        language: pack_documents(tokeniser, documents[language], length, rng)
        for language in sorted(documents)
        if documents[language]
    }
    return TextBatches(sequences, batch_size=batch_size, seed=seed, power=power)


def interleaved(main: Batches, other: Batches, share: float) -> Batches:
    """`share` (0 to below 1) of the microbatches come from `other`, evenly spread."""

    def batch(index: int) -> Batch:
        num_before, num_after = int(index * share), int((index + 1) * share)
        return other(num_before) if num_after > num_before else main(index - num_before)

    return batch
