"""What a policy sees of a round: candidates without names, the tuning split, a counted budget.

Knows no digest, no donor and no gate split. A policy scores mixtures as the coordinator's own search
does, and may ask what that search would have chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.merge.registry import method_of
from seshu_swarm.coordinator.blind.search import Score, SelectionRule, TuningScore
from seshu_swarm.coordinator.blind.selecting import Selection
from seshu_swarm.errors import UsageError, shown
from seshu_swarm.evaluate.accept import Verdict
from seshu_swarm.evaluate.paired import Comparison


@dataclass(frozen=True)
class Candidate:
    """`language` is what its donor declared; `norm` the Frobenius norm of ΔW, after the clip."""

    id: str
    language: str
    norm: float


class Meter:
    """Scores each mixture once, and no more of them than the budget allows."""

    def __init__(
        self, score: Score, budget: int, report: Callable[[float], None] = lambda spent: None
    ) -> None:
        """`report` is told the share of the budget that is spent."""
        self._score, self.budget, self._report = score, budget, report
        self._scores: dict[Mixture, TuningScore] = {}

    @property
    def num_scores(self) -> int:
        return len(self._scores)

    def __call__(self, mixture: Mixture) -> TuningScore:
        """Raises UsageError when the budget is spent."""
        if mixture not in self._scores:
            if self.num_scores >= self.budget:
                raise UsageError(
                    f"the policy asked for more than {self.budget} scores in one round",
                    rule="every mixture that is scored counts once, those of round.default() too",
                    way_out="score fewer mixtures, or give more with --score-calls",
                )
            self._scores[mixture] = self._score(mixture)
            self._report(self.num_scores / self.budget)
        return self._scores[mixture]


@dataclass(frozen=True, kw_only=True)
class PolicyRound:
    """One round, blind. `languages` are the run's; `rule` holds budget and margins of the search."""

    number: int
    seed: int
    languages: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    rule: SelectionRule
    _meter: Meter = field(repr=False)
    _search: Callable[[Score, SelectionRule], Selection] = field(repr=False)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(candidate.id for candidate in self.candidates)

    @property
    def scores_left(self) -> int:
        return self._meter.budget - self._meter.num_scores

    def mixture(
        self,
        members: Iterable[str] | Mapping[str, float],
        *,
        lam: float = 1.0,
        method: str = "task_arithmetic",
        **settings: float,
    ) -> Mixture:
        """λ · method(ΔW's): of ids with equal shares, or of id → share. Raises UsageError."""
        weights = dict(members) if isinstance(members, Mapping) else dict.fromkeys(members, 1.0)
        total = math.fsum(weights.values()) if weights else 0.0
        if weights and not (math.isfinite(total) and total > 0):
            raise UsageError(f"shares with the sum {total}", rule="a finite sum above zero")
        shares = tuple((name, weights[name] / total) for name in sorted(weights))
        made = Mixture(shares, lam, method, tuple(sorted(settings.items())))
        return checked(made, self.ids) or Mixture()

    def score(self, mixture: Mixture) -> TuningScore:
        """`gain` and `harm` by language, in bits per byte, on the tuning split. Raises UsageError."""
        found = checked(mixture, self.ids)
        if found is None:
            return TuningScore(dict.fromkeys(self.languages, 0.0), {})
        return self._meter(found)

    def gain(self, mixture: Mixture) -> float:
        """The mean gain over languages, in bits per byte: positive is better than the base."""
        gains = self.score(mixture).gain.values()
        return sum(gains) / max(1, len(gains))

    def default(self) -> Mixture | None:
        """What the coordinator's own search chooses with the scores that are left, or None."""
        rule = replace(self.rule, budget=self.scores_left)
        selection = self._search(self._meter, rule)
        return None if selection.void or not selection.mixture.shares else selection.mixture


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What `accept` sees: the mixture against the base on the gate split, by language.

    In bits per byte, negative is better: `gains` on answers, `harms` on running text. `test_index`
    counts how often the set was read; `default` is the coordinator's own verdict.
    """

    gains: Mapping[str, Comparison]
    harms: Mapping[str, Comparison]
    test_index: int
    default: Verdict


def checked(found: Any, ids: Iterable[str]) -> Mixture | None:
    """A policy's answer; None for a mixture of nobody. Raises UsageError for anything else."""
    if found is None or (isinstance(found, Mixture) and not found.shares):
        return None
    if not isinstance(found, Mixture):
        raise UsageError(
            f"the policy chose {shown(found)}",
            rule="a policy returns a Mixture, or None to publish nothing",
            way_out="make one with round.mixture(ids, lam=1.0)",
        )
    unknown = sorted(set(found.ids) - set(ids))
    if unknown or len(set(found.ids)) != len(found.ids):
        raise UsageError(
            f"a mixture of {shown(unknown[0] if unknown else found.ids[0])}",
            rule="every member is a candidate of this round, and named once",
        )
    numbers = [found.lam, *(share for _, share in found.shares), *dict(found.settings).values()]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise UsageError("a mixture with a share, λ or setting that is no finite number")
    _check_settings(found)
    return found


def _check_settings(found: Mixture) -> None:
    method = method_of(found.method)
    unknown = sorted(set(dict(found.settings)) - set(method.settings))
    if unknown or method.needs_score:
        raise UsageError(
            f"a mixture by {found.method} with {shown(unknown[0]) if unknown else 'a score'}",
            rule=f"its settings: {', '.join(method.settings) or 'none'}",
            way_out="a method that asks for scores is used through its own function, see "
            "docs/policies.md",
        )
