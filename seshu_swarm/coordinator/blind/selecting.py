"""Which candidates are merged, and what every donor is told.

Runs the search on the tuning split, then the round's controls: a candidate that changes nothing and
one of pure noise must fail the very test that members pass, and a copy must have been recognised.
How much noise gains by chance depends on the tuning rows. So where noise passes, the search asks
for twice what it gained and meets other noise; the round is void where none of them is refused.
Pure: knows random ids, no author and no tensors. The gate (`evaluate.accept`) has the last word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.blind.search import LONE_LAM, Score, Search, SelectionRule, Trial
from seshu_swarm.errors import UsageError

# What noise gained once is about one deviation of what it gains: twice that is rare.
NOISE_FACTOR = 2.0


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Ids of the round's control candidates; `duplicate` is a copy of a real candidate.

    `noises` are drawn apart from one another, each met only where those before it passed.
    """

    null: str
    noises: tuple[str, ...]
    duplicate: str

    @property
    def ids(self) -> frozenset[str]:
        return frozenset((self.null, *self.noises, self.duplicate))


@dataclass(frozen=True)
class Reason:
    """What a donor is told: a stable name, a plain sentence, a next step, a gain to 3 decimals."""

    accepted: bool
    name: str
    text: str
    next_step: str
    gain_bits_per_byte: float | None = None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The best mixture (empty where nothing helps). A round with `void` set publishes nothing."""

    mixture: Mixture
    gain_bits_per_byte: float
    reasons: dict[str, Reason]
    trials: tuple[Trial, ...]
    void: str | None

    @property
    def chosen(self) -> tuple[str, ...]:
        return self.mixture.ids

    @property
    def weights(self) -> dict[str, float]:
        """Id → share; they sum to one."""
        return dict(self.mixture.shares)

    @property
    def lam(self) -> float:
        return self.mixture.lam if self.mixture.shares else 0.0


def select(
    score: Score,
    candidates: Iterable[str],
    *,
    duplicates: Mapping[str, str],
    controls: Controls | None = None,
    languages: Mapping[str, str] | None = None,
    rule: SelectionRule | None = None,
) -> Selection:
    """Search within the budget and say for every real candidate what became of it.

    `duplicates` maps copies to originals; `languages` (id → declared language) lets candidates of
    different languages be summed beyond a total weight of one. Raises UsageError for a budget that
    allows nothing.
    """
    rule = rule or SelectionRule()
    reserved = 1 + len(controls.noises) if controls else 0
    if rule.budget <= reserved:
        raise UsageError(f"budget of {rule.budget} scores", rule=f"above {reserved}")
    donors = sorted(set(candidates) - (controls.ids if controls else set()))
    pool = tuple(name for name in donors if name not in duplicates)
    search = Search(score, rule, rule.budget - reserved, languages or {})
    best, void = _choose(search, pool, controls) if controls else (search.run(pool), None)
    if controls and controls.duplicate not in duplicates:
        void = f"DUPLICATE_MISSED: control {controls.duplicate} was not recognised as a copy"
    return Selection(
        mixture=best.mixture,
        gain_bits_per_byte=best.gain,
        reasons={name: _reason(name, search, best, duplicates) for name in donors},
        void=void,
        trials=tuple(search.trials.values()),
    )


def _choose(search: Search, pool: tuple[str, ...], controls: Controls) -> tuple[Trial, str | None]:
    """The best mixture that refuses noise, and why the round is void where none does."""
    best, gained = search.run(pool), None
    for noise in controls.noises:
        gained = _gain_of(noise, search, best)
        if gained is None:
            break
        search.margin = NOISE_FACTOR * gained
        best = search.run(pool)
    if gained is not None:
        return best, _accepted("NOISE", noise, gained)
    if (gained := _gain_of(controls.null, search, best)) is not None:
        return best, _accepted("NULL", controls.null, gained)
    return best, None


def _gain_of(control: str, search: Search, best: Trial) -> float | None:
    """What the control gains where it passes the test that members pass, else None."""
    members = best.mixture.ids
    each = best.mixture.lam / len(members) if members else LONE_LAM
    trial = search.control((*members, control), each * (len(members) + 1))
    return trial.gain - best.gain if search.keeps(trial, best) else None


def _accepted(kind: str, control: str, gained: float) -> str:
    return (
        f"{kind}_ACCEPTED: control {control} passed the test that members pass, with a gain of "
        f"{gained:.4f} bits per byte"
    )


def _reason(name: str, search: Search, best: Trial, duplicates: Mapping[str, str]) -> Reason:
    if name in duplicates:
        return Reason(False, "DUPLICATE", "a copy of another candidate", "train on your own rows")
    lone, contribution = search.lone.get(name), search.contributions.get(name)
    gain = contribution if contribution is not None else lone.gain if lone else None
    gain = round(gain, 3) if gain is not None and math.isfinite(gain) else None
    if name in best.mixture.ids:
        return Reason(True, "MERGED", "the mixture is better with it", "keep going", gain)
    if lone is not None and lone.excess > 0:
        harmed = ", ".join(lone.harmed) or "the model"
        text = f"even at a weight of 1/8 it harms {harmed}"
        return Reason(
            False, "HARMFUL", text, "train with a lower learning rate, cleaner rows", gain
        )
    if gain is None:
        text = "the round's budget of scores ended before it was measured"
        return Reason(False, "NOT_MEASURED", text, "push it again next round")
    if gain > search.margin:
        text = "it helps, but a mixture without it is better"
        return Reason(False, "OUTSHONE", text, "train on from the next base", gain)
    text = "without it the mixture loses nothing that counts"
    return Reason(False, "NO_GAIN", text, "train longer or on more rows", gain)
