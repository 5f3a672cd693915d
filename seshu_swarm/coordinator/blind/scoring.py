"""Scores of a model and of what a ΔW makes of it, in place, on held-out windows.

Knows candidates as random ids with a ΔW, never an author or a file. Only merged weights are ever
scored, in the memory of the base itself.

Candidates do not share the base's work below the first block that they change: the strict reader
takes only adapters that name their projections in every block, so that none leaves block 0 alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.blind.base import Base
from seshu_swarm.coordinator.blind.search import TuningScore
from seshu_swarm.data.windows import Window
from seshu_swarm.evaluate.bits import Nats, bits_per_byte, window_nats
from seshu_swarm.evaluate.paired import Comparison, compare

Windows = Mapping[str, Sequence[Window]]

# Activations of so many tokens take about the memory of merging one matrix of a ΔW.
MAX_TOKENS_PER_BATCH = 1024


@dataclass(frozen=True)
class HeldOut:
    """Windows by language: `rows` (SFT answers) show gain, `text` (running text) shows harm."""

    rows: Windows
    text: Windows


@dataclass(frozen=True)
class Scores:
    """Nats of every window, in the order of the held-out windows, by language."""

    rows: dict[str, Nats]
    text: dict[str, Nats]


@dataclass(frozen=True)
class Comparisons:
    """By language; the arguments of `evaluate.accept.gate`."""

    gains: dict[str, Comparison]
    harms: dict[str, Comparison]


class Scorer:
    """The base is changed while a score runs and is itself again afterwards, also on errors.

    Memory beside the base's and the candidates': activations and logits of `max_tokens_per_batch`
    (of one window where a window is longer), and some float64 copies of the largest matrix.
    """

    def __init__(
        self,
        base: Base,
        held_out: HeldOut,
        candidates: Mapping[str, Delta] | None = None,
        *,
        max_tokens_per_batch: int = MAX_TOKENS_PER_BATCH,
    ) -> None:
        self._base, self._held_out, self._candidates = base, held_out, candidates or {}
        self._max_tokens_per_batch = max_tokens_per_batch
        self._base_scores: Scores | None = None

    @property
    def base(self) -> Scores:
        """Scores of the base, computed once."""
        if self._base_scores is None:
            self._base_scores = self._score_now()
        return self._base_scores

    def score(self, delta: Delta | None, *, lam: float = 1.0) -> Scores:
        """Scores of W₀ + λ·ΔW; of the base for None. Raises UsageError for a misfit."""
        if delta is None:
            return self.base
        with self._base.with_delta(delta, lam):
            return self._score_now()

    def score_mixture(self, mixture: Mixture) -> Scores:
        """Scores of a mixture of the candidates."""
        return self.score(mixture.delta(self._candidates) if mixture.shares else None)

    def tuning_score(self, mixture: Mixture) -> TuningScore:
        """Gain and harm against the base, point estimates: what `select` asks for."""
        scores = self.score_mixture(mixture)
        gain = _differences(self.base.rows, scores.rows, self._held_out.rows)
        harm = _differences(scores.text, self.base.text, self._held_out.text)
        return TuningScore(gain, harm)

    def compare(self, scores: Scores) -> Comparisons:
        """Paired comparisons with the base."""
        return comparisons_of(self._held_out, base=self.base, candidate=scores)

    def _score_now(self) -> Scores:
        rows, text = (
            {
                language: window_nats(
                    self._base.model, windows, max_tokens_per_batch=self._max_tokens_per_batch
                )
                for language, windows in part.items()
            }
            for part in (self._held_out.rows, self._held_out.text)
        )
        return Scores(rows, text)


def comparisons_of(held_out: HeldOut, *, base: Scores, candidate: Scores) -> Comparisons:
    """Paired comparisons of two models' scores; neither model is needed any more."""
    return Comparisons(
        gains=_compare(candidate.rows, base.rows, held_out.rows),
        harms=_compare(candidate.text, base.text, held_out.text),
    )


def _differences(
    minuend: Mapping[str, Nats], subtrahend: Mapping[str, Nats], windows: Windows
) -> dict[str, float]:
    """(minuend - subtrahend) in bits per byte, by language."""
    return {
        language: bits_per_byte(
            float((minuend[language] - subtrahend[language]).sum()),
            sum(window.num_bytes for window in windows[language]),
        )
        for language in windows
    }


def _compare(
    candidate: Mapping[str, Nats], current: Mapping[str, Nats], windows: Windows
) -> dict[str, Comparison]:
    return {
        language: compare(
            candidate[language],
            current[language],
            num_bytes=[window.num_bytes for window in windows[language]],
            documents=[window.document for window in windows[language]],
        )
        for language in windows
    }
