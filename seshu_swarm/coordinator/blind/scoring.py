"""Scores of a model and of what a ΔW makes of it, in place, on held-out windows.

Knows candidates as random ids with a ΔW, never an author or a file. A ΔW is added to the model's
own weights, the windows are scored and the weights put back bit for bit: only merged weights are
ever scored, and there is no copy of the model, only of the matrices that change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.apply import apply_one
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.blind.search import TuningScore
from seshu_swarm.data.windows import Window
from seshu_swarm.errors import UsageError
from seshu_swarm.evaluate.bits import Nats, bits_per_byte, window_nats
from seshu_swarm.evaluate.paired import Comparison, compare
from seshu_swarm.mamba.whole import WholeModel

Windows = Mapping[str, Sequence[Window]]


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
    """`model` is changed while a score runs and is the base again afterwards, also on errors."""

    def __init__(
        self,
        model: WholeModel,
        held_out: HeldOut,
        candidates: Mapping[str, Delta] | None = None,
        *,
        max_tokens_per_batch: int = 2048,
    ) -> None:
        self._model, self._held_out, self._candidates = model, held_out, candidates or {}
        self._max_tokens_per_batch = max_tokens_per_batch
        self._base: Scores | None = None

    @property
    def base(self) -> Scores:
        """Scores of the base, computed once."""
        if self._base is None:
            self._base = self._score_now()
        return self._base

    def score(self, delta: Delta | None, *, lam: float = 1.0) -> Scores:
        """Scores of W₀ + λ·ΔW; of the base for None. Raises UsageError for a misfit."""
        if delta is None:
            return self.base
        with applied(self._model, delta, lam):
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
        return Comparisons(
            gains=_compare(scores.rows, self.base.rows, self._held_out.rows),
            harms=_compare(scores.text, self.base.text, self._held_out.text),
        )

    def _score_now(self) -> Scores:
        rows, text = (
            {
                language: window_nats(
                    self._model, windows, max_tokens_per_batch=self._max_tokens_per_batch
                )
                for language, windows in part.items()
            }
            for part in (self._held_out.rows, self._held_out.text)
        )
        return Scores(rows, text)


@contextmanager
def applied(model: WholeModel, delta: Delta, lam: float = 1.0) -> Iterator[None]:
    """The model with W₀ + λ·ΔW inside the block, the very bits of W₀ after it."""
    tensors = model.checkpoint_tensors()
    originals: dict[str, torch.Tensor] = {}
    try:
        with torch.no_grad():
            for name in delta:
                matrix = delta[name]
                if name not in tensors or tensors[name].shape != matrix.shape:
                    raise UsageError(f"ΔW of {name}", rule="it must fit a weight of the base")
                originals[name] = tensors[name].detach().clone()
                tensors[name].copy_(apply_one(originals[name], matrix, lam))
        yield
    finally:
        with torch.no_grad():
            for name, original in originals.items():
                tensors[name].copy_(original)


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
