"""One recorded round under a policy, and what was recorded of it, on the same held-out sets.

The round is replayed on its own recorded parent, whatever the policy published before: its adapters
were trained on that base and fit no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seshu_swarm.adapters.delta import adapter_norm
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.sketch import find_duplicates, sketch_of
from seshu_swarm.coordinator.blind.base import Base
from seshu_swarm.coordinator.blind.held_out import read_held_out
from seshu_swarm.coordinator.blind.judging import CONTROLS, deltas_of, with_controls
from seshu_swarm.coordinator.blind.scoring import Comparisons, Scorer
from seshu_swarm.coordinator.blind.search import Score, SelectionRule, TuningScore
from seshu_swarm.coordinator.blind.selecting import Selection, select
from seshu_swarm.coordinator.research.policy import Policy
from seshu_swarm.coordinator.research.recorded import RecordedRound
from seshu_swarm.coordinator.research.seeing import Candidate, Gate, Meter, PolicyRound
from seshu_swarm.coordinator.state.hold_outs import Role
from seshu_swarm.evaluate.accept import AcceptRule, gate


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Of the coordinator's own choice and gate."""

    selection: SelectionRule
    accept: AcceptRule


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`splits` compares the mixture with the base on each split; empty where nothing was chosen."""

    name: str
    mixture: Mixture | None
    splits: Mapping[Role, Comparisons]
    published: bool
    verdict: str


@dataclass(frozen=True)
class Replayed:
    """Both outcomes of a round; `num_scores` is what the policy spent."""

    round: RecordedRound
    outcomes: tuple[Outcome, Outcome]
    num_scores: int


class Splits:
    """Scores on all three splits with one model; the base is scored once for each."""

    def __init__(self, recorded: RecordedRound) -> None:
        everyone = with_controls(recorded.candidates, seed=recorded.seed)
        base = Base(recorded.base)
        deltas = deltas_of(everyone)
        self.everyone = everyone
        self._scorers = {
            role: Scorer(base, read_held_out(path), deltas)
            for role, path in recorded.held_out.items()
        }

    def score(self, mixture: Mixture) -> TuningScore:
        return self._scorers[Role.TUNING].tuning_score(mixture)

    def compare(self, mixture: Mixture | None) -> dict[Role, Comparisons]:
        if mixture is None:
            return {}
        return {r: s.compare(s.score_mixture(mixture)) for r, s in self._scorers.items()}


def replay(
    recorded: RecordedRound,
    policy: Policy,
    *,
    languages: tuple[str, ...],
    rules: Rules,
    report: Callable[[float], None] = lambda spent: None,
) -> Replayed:
    """Raises UsageError for what the policy does wrong."""
    splits = Splits(recorded)
    meter = Meter(splits.score, rules.selection.budget, report)
    seen = _seen(recorded, splits, meter, languages=languages, rule=rules.selection)
    chosen = policy.choose(seen)
    compared = splits.compare(chosen)
    published, verdict = _verdict(policy, compared, recorded.gate_reading, rules.accept)
    simulated = Outcome(
        name=policy.name, mixture=chosen, splits=compared, published=published, verdict=verdict
    )
    return Replayed(recorded, (_as_recorded(recorded, splits), simulated), meter.num_scores)


def _seen(
    recorded: RecordedRound,
    splits: Splits,
    meter: Meter,
    *,
    languages: tuple[str, ...],
    rule: SelectionRule,
) -> PolicyRound:
    sketches = {name: sketch_of(adapter) for name, adapter in splits.everyone.items()}

    def search(score: Score, within: SelectionRule) -> Selection:
        return select(
            score,
            splits.everyone,
            duplicates=find_duplicates(sketches),
            controls=CONTROLS,
            languages=recorded.languages,
            rule=within,
        )

    return PolicyRound(
        number=recorded.number,
        seed=recorded.seed,
        languages=languages,
        candidates=tuple(
            Candidate(name, recorded.languages[name], adapter_norm(adapter))
            for name, adapter in sorted(recorded.candidates.items())
        ),
        rule=rule,
        _meter=meter,
        _search=search,
    )


def _as_recorded(recorded: RecordedRound, splits: Splits) -> Outcome:
    published = recorded.revision is not None
    return Outcome(
        name="recorded",
        mixture=recorded.mixture,
        splits=splits.compare(recorded.mixture),
        published=published,
        verdict="published" if published else f"aborted: {recorded.reason}",
    )


def _verdict(
    policy: Policy, compared: Mapping[Role, Comparisons], reading: int, rule: AcceptRule
) -> tuple[bool, str]:
    """Whether the policy publishes: its mixture, the gate, and then the final split's word."""
    if not compared:
        return False, "nothing chosen"
    found = compared[Role.GATE]
    own = gate(found.gains, found.harms, test_index=reading, rule=rule)
    if not policy.accept(
        Gate(gains=found.gains, harms=found.harms, test_index=reading, default=own)
    ):
        return False, "refused at the gate: " + "; ".join(own.reasons)
    if (mean := mean_change(compared[Role.FINAL])) >= 0:
        return False, f"the final split disagrees with the gate: {mean:+.4f} bits per byte"
    return True, "published"


def mean_change(found: Comparisons) -> float:
    """Macro mean of the change of answers, in bits per byte; negative is better."""
    changes = [comparison.delta_bits_per_byte for comparison in found.gains.values()]
    return sum(changes) / max(1, len(changes))
