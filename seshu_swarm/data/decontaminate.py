"""Near copies between parts: what shares text with something more precious is taken out.

A row goes whole; of a document the sentences that are not hit stay. Text that comes later, for
more pretraining or for new held-out sets, is held against what there is with `clean`. Knows no
files and no draws.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.data.groups import HELD, SPARE, TRAINING, Item, Key, fields_of, keys_of
from seshu_swarm.data.overlap import Hit, Texts, normalise
from seshu_swarm.data.rolling import WINDOW_BYTES
from seshu_swarm.data.text import Document, Row

SENTENCE_END = re.compile(r"(?<=[.!?।॥۔؟])\s+|\s*\n\s*")


def clean(items: Sequence[Item], precious: Sequence[Item]) -> tuple[list[Item], int]:
    """What of the items shares no text with the precious ones, and how many were touched.

    A document that lost sentences comes back as its runs of them, under its own id.
    """
    everything = [*precious, *items]
    parts = [HELD[0]] * len(precious) + [TRAINING] * len(items)
    texts = Texts(fields_of(everything), len(everything))
    cut, touched = decontaminate(everything, parts, [keys_of(item) for item in everything], texts)
    first = len(precious)
    kept = [found for i, item in enumerate(items, first) for found in cut.get(i, [item])]
    return kept, len(touched)


def decontaminate(
    items: Sequence[Item], parts: list[str], keys: Sequence[Sequence[Key]], texts: Texts
) -> tuple[dict[int, list[Item]], set[int]]:
    """Take out what shares text with a more precious part.

    Rows become SPARE; of a document its other sentences stay, as one document for each run of
    them. Returns what is left of the cut documents, and the training items that were touched.
    """
    cut: dict[int, list[Item]] = {}
    touched: set[int] = set()
    for k, part in enumerate((*HELD[1:], TRAINING), start=1):
        held, suspects = _mask(parts, HELD[:k]), _mask(parts, (part,))
        equal = _equal(keys, held, suspects)
        hits_of: dict[int, list[Hit]] = {i: [] for i in equal}
        for hit in texts.hits(held, suspects):
            hits_of.setdefault(hit.item, []).append(hit)
        for i, hits in hits_of.items():
            cut[i] = [] if i in equal else _without(items[i], hits)
            if not cut[i]:
                parts[i] = SPARE
        touched = set(hits_of)
    return cut, touched


def _mask(parts: Sequence[str], names: Sequence[str]) -> NDArray[np.bool_]:
    return np.asarray([part in names for part in parts], dtype=np.bool_)


def _equal(
    keys: Sequence[Sequence[Key]], held: NDArray[np.bool_], suspects: NDArray[np.bool_]
) -> set[int]:
    """Suspects with a key of a held item."""
    taken = {key for i in np.flatnonzero(held).tolist() for key in keys[i]}
    return {i for i in np.flatnonzero(suspects).tolist() if not taken.isdisjoint(keys[i])}


def _without(item: Item, hits: Iterable[Hit]) -> list[Item]:
    """A document's runs of sentences that are not hit, if a window long; nothing of a row."""
    if isinstance(item, Row):
        return []
    sentences: list[str] = []
    ends: list[int] = []
    end = -1
    for sentence in SENTENCE_END.split(item.text):
        size_bytes = len(normalise(sentence))
        if size_bytes:  # neighbours are one space apart
            end += size_bytes + 1
            sentences.append(sentence)
            ends.append(end)
    runs: list[list[str]] = [[]]
    hit_ones: set[int] = set()
    for hit in hits:
        hit_ones.update(range(bisect_right(ends, hit.start), bisect_left(ends, hit.end) + 1))
    for k, sentence in enumerate(sentences):
        if k in hit_ones:
            runs.append([])
        else:
            runs[-1].append(sentence)
    texts = ["\n".join(run) for run in runs]
    return [
        Document(item.id, item.language, text)
        for text in texts
        if len(text.encode()) >= WINDOW_BYTES
    ]
