"""A column of the table: one model or floor over all languages, and what is said of it.

Intervals are the middle 95 % of bootstrap draws of documents; what packs a whole file has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from seshu_swarm.evaluate.bits import Nats, bits_per_byte
from seshu_swarm.evaluate.paired import Comparison, compare
from seshu_swarm.evaluate.texts import Text, Texts

MEAN = "mean"
LN2 = math.log(2)


@dataclass(frozen=True)
class Column:
    """`nats`: of each text, by language; where there are none, `bits` of all texts together."""

    name: str
    nats: Mapping[str, Nats]
    bits: Mapping[str, float]

    @classmethod
    def of_nats(cls, name: str, nats: Mapping[str, Nats]) -> Column:
        return cls(name, nats, {k: float(v.sum()) / LN2 for k, v in nats.items()})

    def named(self, name: str) -> Column:
        return replace(self, name=name)

    @classmethod
    def of_bits(cls, name: str, bits: Mapping[str, float]) -> Column:
        return cls(name, {}, bits)


@dataclass(frozen=True)
class Score:
    """Bits per byte of one column in one language, or in the mean of languages."""

    bits_per_byte: float
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None


def scores_of(column: Column, texts: Texts) -> dict[str, Score]:
    """By language, and the mean over languages under `MEAN`."""
    scores = {language: _score(column, language, texts[language]) for language in texts}
    scores[MEAN] = mean_of(scores)
    return scores


def differences(column: Column, other: Column, texts: Texts) -> dict[str, Comparison]:
    """`column` minus `other` by language, negative where it is better; none without nats."""
    if not (column.nats and other.nats):
        return {}
    return {
        language: _compared(column.nats[language], other.nats[language], texts[language])
        for language in texts
    }


def mean_of(scores: Mapping[str, Score]) -> Score:
    """Every language counts the same; errors of languages are independent."""
    count = len(scores)
    value = sum(score.bits_per_byte for score in scores.values()) / count
    errors = [s.standard_error for s in scores.values() if s.standard_error is not None]
    if len(errors) < count:
        return Score(value)
    error = math.hypot(*errors) / count
    return Score(value, value - 1.96 * error, value + 1.96 * error, error)


def _score(column: Column, language: str, texts: Sequence[Text]) -> Score:
    if not column.nats:
        size = sum(text.num_bytes for text in texts)
        return Score(bits_per_byte(column.bits[language] * LN2, size))
    nats = column.nats[language]
    found = _compared(nats, np.zeros_like(nats), texts)
    return Score(found.delta_bits_per_byte, found.low, found.high, found.standard_error)


def _compared(nats: Nats, other: Nats, texts: Sequence[Text]) -> Comparison:
    sizes, documents = [text.num_bytes for text in texts], [text.id for text in texts]
    return compare(nats, other, num_bytes=sizes, documents=documents)
