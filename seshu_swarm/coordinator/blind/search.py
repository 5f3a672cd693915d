"""The search for the best mixture of candidates on the tuning split, within a budget of scores.

Pure logic over a `score` callable; knows candidates as random ids. All mixtures it tries are
uniform: some members, each with the same weight. Three paths, the most useful first, since calls
are counted: backward elimination from the mean of all, with a line search on λ; each candidate
alone at λ = 1/8; forward from the best of those. A member stays only if leaving it out costs more
than a margin, `min_gain` or what noise asks for (`selecting`). Meanwhile the others' weights stay
as they are, so that a candidate that changes nothing measures exactly nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from seshu_swarm.adapters.merge.mixture import Mixture

LONE_LAM = 1 / 8
LAMS_BELOW_ONE = (1 / 2, 1 / 4, 1 / 8)

Members = tuple[str, ...]


@dataclass(frozen=True)
class TuningScore:
    """Against the base, by language, bits per byte: `gain` positive is better, `harm` is worse."""

    gain: Mapping[str, float]
    harm: Mapping[str, float]


Score = Callable[[Mixture], TuningScore]


@dataclass(frozen=True, kw_only=True)
class SelectionRule:
    """`budget` counts calls of `score`, controls included; margins in bits per byte.

    `methods` are tried beside the weighted sum, on the mixture that won. `scored` are the languages
    that count for gain; unset, all that have a score.
    """

    budget: int = 34
    min_gain: float = 0.001
    no_harm: float = 0.01
    methods: tuple[str, ...] = ()
    scored: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Trial:
    """A scored mixture: macro mean gain, and by how much languages exceed the no-harm margin."""

    mixture: Mixture
    gain: float
    excess: float
    harmed: tuple[str, ...] = ()

    def beats(self, other: Trial, *, by: float = 0.0) -> bool:
        """Less harm first; with equal harm a gain that is larger by more than `by`."""
        if self.excess != other.excess:
            return self.excess < other.excess
        return self.gain > other.gain + by


BASE = Trial(Mixture(), 0.0, 0.0)


class Search:
    """Scores each mixture once; keeps every trial and what each candidate contributed.

    `margin` is what a member must gain. It may be raised, and the search run again: that costs
    scores only for mixtures it has not tried.
    """

    def __init__(
        self, score: Score, rule: SelectionRule, budget: int, languages: Mapping[str, str]
    ) -> None:
        self._score, self.rule, self.budget, self._languages = score, rule, budget, languages
        self.margin = rule.min_gain
        self.trials: dict[Mixture, Trial] = {}
        self.contributions: dict[str, float] = {}
        self.lone: dict[str, Trial] = {}

    def run(self, pool: Members) -> Trial:
        """The best mixture found; the base where nothing gains more than the margin."""
        backward = self._backward(pool)
        for name in pool:
            alone = self.weigh((name,), LONE_LAM)
            if alone is not None:
                self.lone[name] = alone
        best = self._best([backward, *self.lone.values(), self._forward(backward)])
        return self._best([best, *self._other_methods(best)])

    def control(self, members: Members, total: float) -> Trial:
        """The trial of a mixture with a control in it, whatever the candidates have spent."""
        self.budget += 1
        trial = self.weigh(members, total)
        assert trial is not None  # The call was paid for above.
        return trial

    def weigh(self, members: Members, total: float) -> Trial | None:
        """The trial of λ = `total` shared equally, or None once the budget is spent."""
        shares = tuple((name, 1 / len(members)) for name in sorted(members))
        return self._trial(Mixture(shares, round(total, 9)))

    def _trial(self, mixture: Mixture) -> Trial | None:
        if not mixture.shares:
            return BASE
        if mixture not in self.trials:
            if len(self.trials) >= self.budget:
                return None
            self.trials[mixture] = self._judge(mixture, self._score(mixture))
        return self.trials[mixture]

    def _judge(self, mixture: Mixture, score: TuningScore) -> Trial:
        if not all(map(math.isfinite, [*score.gain.values(), *score.harm.values()])):
            return Trial(mixture, -math.inf, math.inf)
        over = {name: harm - self.rule.no_harm for name, harm in score.harm.items()}
        harmed = tuple(sorted(name for name, excess in over.items() if excess > 0))
        scored = self.rule.scored
        gains = [g for name, g in score.gain.items() if scored is None or name in scored]
        gain = sum(gains) / max(1, len(gains))
        return Trial(mixture, gain, sum(over[name] for name in harmed), harmed)

    def _best(self, trials: Iterable[Trial]) -> Trial:
        best = BASE
        for trial in trials:
            # The base is beaten only by more than the margin, a mixture by anything.
            by = self.margin if best is BASE else 0.0
            if trial.excess == 0 and trial.beats(best, by=by):
                best = trial
        return best

    def keeps(self, current: Trial, without: Trial) -> bool:
        """The test that members pass: `current` has one more of them than `without`."""
        return current.beats(without, by=self.margin)

    def _backward(self, pool: Members) -> Trial:
        """From the mean of all: the dose that harms nobody, then elimination, then λ again.

        Contributions measured inside a mixture that harms say little; so harm is first met with
        less of everything, and only then by leaving somebody out.
        """
        if not pool:
            return BASE
        members, each = pool, self._harmless_dose(pool)
        while members:
            fewer = self._eliminate(members, each)
            is_settled = fewer == members
            members = fewer
            if is_settled:
                break
        return self._line_search(members, each)

    def _harmless_dose(self, pool: Members) -> float:
        """The weight of each, from the mean downwards, at which all together harm no language."""
        for total in (1.0, *LAMS_BELOW_ONE):
            trial = self.weigh(pool, total)
            if trial is None or trial.excess == 0:
                break
        return total / len(pool)

    def _eliminate(self, members: Members, each: float) -> Members:
        """Measure each member by leaving it out, then drop from the worst on what adds nothing."""
        current = self.weigh(members, each * len(members))
        without: dict[str, Trial] = {}
        for name in members:
            trial = self.weigh(_drop(members, name), each * (len(members) - 1))
            if current is None or trial is None:
                return members
            without[name] = trial
            self._note(name, current, trial)
        for name in sorted(members, key=lambda n: (without[n].excess, -without[n].gain)):
            if current is None or self.keeps(current, without[name]):
                continue
            trial = self.weigh(_drop(members, name), each * (len(members) - 1))
            if trial is None:
                break
            self._note(name, current, trial)
            if not self.keeps(current, trial):
                members, current = _drop(members, name), trial
        return members

    def _note(self, name: str, current: Trial, without: Trial) -> None:
        """What a member adds; inside a mixture that harms it would say little."""
        if current.excess == 0:
            self.contributions[name] = current.gain - without.gain

    def _line_search(self, members: Members, each: float) -> Trial:
        """From a total weight of one upwards while it helps, else downwards."""
        survivors = self.weigh(members, each * len(members)) or BASE
        start = self.weigh(members, 1.0)
        if start is None:
            return survivors
        best = self._climb(members, start, self._totals_above_one(members))
        if best is start:
            best = self._climb(members, start, LAMS_BELOW_ONE)
        return best if best.beats(survivors) else survivors

    def _climb(self, members: Members, start: Trial, totals: Iterable[float]) -> Trial:
        best = start
        for total in totals:
            trial = self.weigh(members, total)
            if trial is None or not trial.beats(best):
                break
            best = trial
        return best

    def _totals_above_one(self, members: Members) -> list[float]:
        """2, 4, … up to the number of declared languages: the sum of their specialists."""
        most = len({self._languages[name] for name in members if name in self._languages})
        powers = [float(2**k) for k in range(1, most.bit_length()) if 2**k < most]
        return [*powers, float(most)] if most > 1 else []

    def _forward(self, backward: Trial) -> Trial:
        """Add in the order of what each gains alone, at the weight that the backward path found."""
        shares = backward.mixture.shares
        each = backward.mixture.lam / len(shares) if shares else LONE_LAM
        members: Members = ()
        current = BASE
        for name in sorted(self.lone, key=lambda n: (self.lone[n].excess, -self.lone[n].gain)):
            trial = self.weigh((*members, name), each * (len(members) + 1))
            if trial is not None and self.keeps(trial, current):
                members, current = (*members, name), trial
        return current

    def _other_methods(self, best: Trial) -> list[Trial]:
        shares, lam = best.mixture.shares, best.mixture.lam
        methods = self.rule.methods if len(shares) > 1 else ()
        trials = [self._trial(Mixture(shares, lam, method)) for method in methods]
        return [trial for trial in trials if trial is not None]


def _drop(members: Members, name: str) -> Members:
    return tuple(member for member in members if member != name)
