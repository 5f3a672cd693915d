"""The accept rule: a merge is published iff it helps on average and harms no language.

Macro mean Δ of held-out rows with Δ + z(α_k)·SE < −ε, and on running text for every language
Δ_ℓ + 1.645·SE_ℓ < +δ. A language with too few documents, or too noisy to show a gain of
`max_detectable`, is unscored: it counts for no gain, and is named. Answers of a language, scored or
not, that are surely worse by more than δ count as harm: noise that a candidate brings itself must
not hide what it breaks. Pure: comparisons in, verdict with its reasons out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seshu_swarm.evaluate.paired import (
    Comparison,
    alpha_of_test,
    smallest_detectable_gain,
    z_of,
)


@dataclass(frozen=True, kw_only=True)
class AcceptRule:
    """Gains, margins and `max_detectable` in bits per byte.

    `scored` are the languages that had power before a candidate was seen; unset, the candidate's own
    errors say which have.
    """

    alpha: float = 0.05
    min_gain: float = 0.001
    no_harm_margin: float = 0.01
    no_harm_alpha: float = 0.05
    min_documents: int = 20
    max_detectable: float = 0.05
    scored: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """`bound` is Δ + z·SE, accepted iff below −ε; `reasons` say in words what decided."""

    accepted: bool
    delta_bits_per_byte: float
    standard_error: float
    bound: float
    z: float
    smallest_detectable_gain: float
    unscored: tuple[str, ...]
    harmed: tuple[str, ...]
    reasons: tuple[str, ...]


def gate(
    gains: Mapping[str, Comparison],
    harms: Mapping[str, Comparison],
    *,
    test_index: int,
    rule: AcceptRule | None = None,
) -> Verdict:
    """Judge one candidate. `gains` are held-out rows, `harms` running text, by language.

    `test_index` counts from 1 how often this held-out set has been read. Raises UsageError.
    """
    rule = rule or AcceptRule()
    alpha = alpha_of_test(test_index, rule.alpha)
    scored = [name for name in sorted(gains) if is_scored(name, gains[name], alpha, rule)]
    delta, error = _macro([gains[name] for name in scored])
    z = z_of(alpha)
    bound = delta + z * error
    worse = [name for name in sorted(gains) if worsens_answers(gains[name], rule)]
    broken = [name for name in sorted(harms) if harms_language(harms[name], rule)]
    harmed = tuple(sorted({*worse, *broken}))
    helps = bool(scored) and bound < -rule.min_gain
    reasons = [_gain_reason(delta, bound, helps, rule) if scored else "no language has enough text"]
    reasons += [_harm_reason(name, harms[name], rule) for name in broken]
    reasons += [_worse_reason(name, gains[name], rule) for name in worse]
    unscored = tuple(name for name in sorted(gains) if name not in scored)
    reasons += [f"{name} is unscored: {_size(gains[name])}" for name in unscored]
    return Verdict(
        accepted=helps and not harmed,
        delta_bits_per_byte=delta,
        standard_error=error,
        bound=bound,
        z=z,
        smallest_detectable_gain=smallest_detectable_gain(error, alpha=alpha),
        unscored=unscored,
        harmed=harmed,
        reasons=tuple(reasons),
    )


def is_scored(language: str, comparison: Comparison, alpha: float, rule: AcceptRule) -> bool:
    """Whether the language has the power to show a gain."""
    if rule.scored is not None:
        return language in rule.scored
    detectable = smallest_detectable_gain(comparison.standard_error, alpha=alpha)
    return comparison.num_documents >= rule.min_documents and detectable <= rule.max_detectable


def harms_language(comparison: Comparison, rule: AcceptRule) -> bool:
    """Whether harm beyond the margin cannot be ruled out.

    With fewer than `min_documents` the bootstrap error means little, so the point estimate alone
    is held against the margin.
    """
    if comparison.num_documents < rule.min_documents:
        return not comparison.delta_bits_per_byte < rule.no_harm_margin
    upper = comparison.delta_bits_per_byte + z_of(rule.no_harm_alpha) * comparison.standard_error
    return not upper < rule.no_harm_margin


Pair = tuple[Mapping[str, Comparison], Mapping[str, Comparison]]
"""Gains of one merge on the gate set and on the report set, by language."""


def is_worn(readings: Sequence[Pair]) -> bool:
    """Whether the gate set sees more gain than the report set does, by two standard errors more
    than when it was first read.

    Two sets differ from the start, because they hold other rows; what grows is what rounds that
    read the gate have fitted to, and it can no longer be believed.
    """
    gaps = [_gap(*pair) for pair in readings]
    first = gaps[0] if gaps else (0.0, 0.0)
    return any(gap - first[0] > 2 * math.hypot(error, first[1]) for gap, error in gaps[1:])


def _gap(gate: Mapping[str, Comparison], report: Mapping[str, Comparison]) -> tuple[float, float]:
    """By how much the gate sees more, and the error of that."""
    seen, error = _macro([gate[name] for name in sorted(gate)])
    reported, other = _macro([report[name] for name in sorted(report)])
    return reported - seen, math.hypot(error, other)


def worsens_answers(comparison: Comparison, rule: AcceptRule) -> bool:
    """Whether answers are surely worse by more than the margin; numbers that are none say so too."""
    lower = comparison.delta_bits_per_byte - z_of(rule.no_harm_alpha) * comparison.standard_error
    if comparison.num_documents < rule.min_documents:
        return math.isnan(lower)
    return not lower <= rule.no_harm_margin


def _macro(comparisons: list[Comparison]) -> tuple[float, float]:
    """Mean of the differences over languages, and its error: sqrt(Σ SE²) / L."""
    if not comparisons:
        return 0.0, 0.0
    count = len(comparisons)
    delta = sum(c.delta_bits_per_byte for c in comparisons) / count
    return delta, math.hypot(*(c.standard_error for c in comparisons)) / count


def _gain_reason(delta: float, bound: float, helps: bool, rule: AcceptRule) -> str:
    verdict = "gain" if helps else "no sure gain"
    return (
        f"{verdict}: {delta:+.3f} bits per byte, bound {bound:+.3f}, rule < {-rule.min_gain:+.3f}"
    )


def _harm_reason(name: str, comparison: Comparison, rule: AcceptRule) -> str:
    return (
        f"{name} may be harmed: {comparison.delta_bits_per_byte:+.3f} bits per byte with error "
        f"{comparison.standard_error:.3f} ({_size(comparison)}), margin {rule.no_harm_margin:+.3f}"
    )


def _worse_reason(name: str, comparison: Comparison, rule: AcceptRule) -> str:
    return (
        f"answers in {name} are worse: {comparison.delta_bits_per_byte:+.3f} bits per byte with "
        f"error {comparison.standard_error:.3f}, margin {rule.no_harm_margin:+.3f}"
    )


def _size(comparison: Comparison) -> str:
    return f"{comparison.num_windows} windows of {comparison.num_documents} documents"
