"""Blind: from candidates to a mixture, a gate's word and a final word, one split each.

Knows candidates as random ids and adapters; knows no donor, no network and no ledger. *Tuning*
chooses, *gate* decides once, *final* reports once; no function here sees two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.adapters.controls import duplicate_control, noise_control, null_control
from seshu_swarm.adapters.delta import Delta, LowRankDelta
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.adapters.sketch import find_duplicates, sketch_of
from seshu_swarm.coordinator.blind.base import Base
from seshu_swarm.coordinator.blind.scoring import (
    Comparisons,
    HeldOut,
    Scorer,
    Scores,
    comparisons_of,
)
from seshu_swarm.coordinator.blind.search import SelectionRule, TuningScore
from seshu_swarm.coordinator.blind.selecting import Controls, Selection, select
from seshu_swarm.evaluate.accept import AcceptRule, Verdict, gate
from seshu_swarm.evaluate.bits import bits_per_byte

CONTROLS = Controls(
    null="control-null",
    noises=("control-noise-1", "control-noise-2", "control-noise-3"),
    duplicate="control-duplicate",
)
CALLS_PER_CANDIDATE, CALLS_BESIDE = 4, 10

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class GateWord:
    """The verdict, and what it was read from."""

    verdict: Verdict
    comparisons: Comparisons


@dataclass(frozen=True)
class FinalWord:
    """On the final split: comparisons with the base, and both sides' bits per byte by language."""

    comparisons: Comparisons
    before: dict[str, float]
    after: dict[str, float]


def budget_of(num_candidates: int) -> int:
    """Scores that a search over so many candidates needs: leave-one-out twice, alone, forward."""
    return CALLS_BESIDE + CALLS_PER_CANDIDATE * num_candidates


def with_controls(candidates: Mapping[str, Adapter], *, seed: int) -> dict[str, Adapter]:
    """Candidates and the round's controls, made from the first candidate."""
    first = candidates[min(candidates)]
    noises = enumerate(CONTROLS.noises, start=seed)
    return {
        **candidates,
        CONTROLS.null: null_control(first),
        CONTROLS.duplicate: duplicate_control(first),
        **{name: noise_control(first, seed=own) for own, name in noises},
    }


def deltas_of(candidates: Mapping[str, Adapter]) -> dict[str, Delta]:
    """Id → ΔW, each matrix computed on access."""
    return {name: LowRankDelta(adapter) for name, adapter in candidates.items()}


def choose(
    base: Path,
    tuning: HeldOut,
    candidates: Mapping[str, Adapter],
    *,
    languages: Mapping[str, str],
    rule: SelectionRule,
    seed: int = 0,
    report: Report = lambda fraction, text: None,
) -> Selection:
    """Choose a mixture on the tuning split; `base` is a checkpoint folder."""
    everyone = with_controls(candidates, seed=seed)
    deltas = deltas_of(everyone)
    scorer = Scorer(Base(base), tuning, deltas)
    calls = 0

    def score(mixture: Mixture) -> TuningScore:
        nonlocal calls
        calls += 1
        report(min(1.0, calls / rule.budget), f"{calls} mixtures scored")
        return scorer.tuning_score(mixture)

    return select(
        score,
        deltas,
        duplicates=find_duplicates({name: sketch_of(a) for name, a in everyone.items()}),
        controls=CONTROLS,
        languages=languages,
        rule=rule,
    )


def decide(
    base: Path,
    split: HeldOut,
    candidates: Mapping[str, Adapter],
    mixture: Mixture,
    *,
    test_index: int,
    rule: AcceptRule,
) -> GateWord:
    """The gate: one reading of its split, the `test_index`-th that was ever made of it."""
    scorer = Scorer(Base(base), split, deltas_of(candidates))
    found = scorer.compare(scorer.score_mixture(mixture))
    verdict = gate(found.gains, found.harms, test_index=test_index, rule=rule)
    return GateWord(verdict, found)


def conclude(base: Path, published: Path, split: HeldOut) -> FinalWord:
    """The final word, from the checkpoint as it was written to disk; one model at a time."""
    before = Scorer(Base(base), split).base
    after = Scorer(Base(published), split).base
    comparisons = comparisons_of(split, base=before, candidate=after)
    return FinalWord(comparisons, _bits(split, before), _bits(split, after))


def _bits(held_out: HeldOut, scores: Scores) -> dict[str, float]:
    return {
        language: bits_per_byte(
            float(nats.sum()), sum(window.num_bytes for window in held_out.rows[language])
        )
        for language, nats in scores.rows.items()
    }
