"""Blind: from candidates to a mixture, a gate and a final word.

Knows candidates as random ids and adapters; knows no donor, no network and no ledger. Three
splits that no donor saw: *tuning* chooses, *gate* decides once, *final* reports once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm import checkpoints
from seshu_swarm.adapters.controls import duplicate_control, noise_control, null_control
from seshu_swarm.adapters.delta import Delta, LowRankDelta
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.adapters.sketch import find_duplicates, sketch_of
from seshu_swarm.coordinator.blind.scoring import Comparisons, HeldOut, Scorer, Scores
from seshu_swarm.coordinator.blind.search import SelectionRule, TuningScore
from seshu_swarm.coordinator.blind.selecting import Controls, Selection, select
from seshu_swarm.evaluate.accept import AcceptRule, Verdict, gate
from seshu_swarm.evaluate.bits import bits_per_byte
from seshu_swarm.mamba.whole import WholeModel

CONTROLS = Controls(null="control-null", noise="control-noise", duplicate="control-duplicate")


@dataclass(frozen=True)
class Splits:
    tuning: HeldOut
    gate: HeldOut
    final: HeldOut


@dataclass(frozen=True)
class FinalWord:
    """On the final split: comparisons with the base, and both sides' bits per byte by language."""

    comparisons: Comparisons
    before: dict[str, float]
    after: dict[str, float]


Report = Callable[[float, str], None]


class Judge:
    """`base` is a checkpoint folder. Methods block; call them from a thread, in this order."""

    def __init__(
        self, base: Path, splits: Splits, candidates: Mapping[str, Adapter], *, seed: int
    ) -> None:
        self._splits, self._candidates, self._seed = splits, dict(candidates), seed
        self._model: WholeModel = checkpoints.load_whole(base).eval().requires_grad_(False)
        self._deltas: dict[str, Delta] = {i: LowRankDelta(a) for i, a in self._all().items()}

    def _all(self) -> dict[str, Adapter]:
        """Candidates and the round's controls, made from the first candidate."""
        first = self._candidates[min(self._candidates)]
        return self._candidates | {
            CONTROLS.null: null_control(first),
            CONTROLS.noise: noise_control(first, seed=self._seed),
            CONTROLS.duplicate: duplicate_control(first),
        }

    def select(
        self, languages: Mapping[str, str], *, rule: SelectionRule, report: Report
    ) -> Selection:
        """Choose on the tuning split."""
        scorer = Scorer(self._model, self._splits.tuning, self._deltas)
        sketches = {i: sketch_of(adapter) for i, adapter in self._all().items()}
        calls = 0

        def score(mixture: Mixture) -> TuningScore:
            nonlocal calls
            calls += 1
            report(min(1.0, calls / rule.budget), f"{calls} mixtures scored")
            return scorer.tuning_score(mixture)

        return select(
            score,
            self._deltas,
            duplicates=find_duplicates(sketches),
            controls=CONTROLS,
            languages=languages,
            rule=rule,
        )

    def gate(self, mixture: Mixture, *, test_index: int, rule: AcceptRule) -> Verdict:
        """Decide on the gate split, which is read once per round."""
        scorer = Scorer(self._model, self._splits.gate, self._deltas)
        found = scorer.compare(scorer.score_mixture(mixture))
        return gate(found.gains, found.harms, test_index=test_index, rule=rule)

    def final(self, published: Path) -> FinalWord:
        """Report on the final split, from the checkpoint as it was written to disk."""
        held_out = self._splits.final
        base = Scorer(self._model, held_out)
        merged = Scorer(checkpoints.load_whole(published).eval(), held_out)
        before, after = (_bits(held_out, scorer.base) for scorer in (base, merged))
        return FinalWord(base.compare(merged.base), before, after)

    def delta(self, mixture: Mixture) -> Delta:
        """The ΔW of the mixture."""
        return mixture.delta(self._deltas)


def _bits(held_out: HeldOut, scores: Scores) -> dict[str, float]:
    return {
        language: bits_per_byte(
            float(nats.sum()), sum(window.num_bytes for window in held_out.rows[language])
        )
        for language, nats in scores.rows.items()
    }
