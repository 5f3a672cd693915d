"""Which candidates are merged, and what every donor is told.

Runs the search on the tuning split, then the round's controls: a candidate that changes nothing and
one of pure noise must fail the very test that members pass, and a copy must have been recognised.
Pure: knows random ids, no author and no tensors. The gate (`evaluate.accept`) has the last word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.blind.search import LONE_LAM, Score, Search, SelectionRule, Trial
from seshu_swarm.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Ids of the round's control candidates; `duplicate` is a copy of a real candidate."""

    null: str
    noise: str
    duplicate: str


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
    control_ids = {controls.null, controls.noise, controls.duplicate} if controls else set()
    num_scored_controls = 2 if controls else 0
    if rule.budget <= num_scored_controls:
        raise UsageError(f"budget of {rule.budget} scores", rule=f"above {num_scored_controls}")
    donors = sorted(set(candidates) - control_ids)
    search = Search(score, rule, rule.budget - num_scored_controls, languages or {})
    best = search.run(tuple(name for name in donors if name not in duplicates))
    search.budget = rule.budget
    return Selection(
        mixture=best.mixture,
        gain_bits_per_byte=best.gain,
        reasons={name: _reason(name, search, best, duplicates) for name in donors},
        void=_void(search, best, controls, duplicates) if controls else None,
        trials=tuple(search.trials.values()),
    )


def _void(
    search: Search, best: Trial, controls: Controls, duplicates: Mapping[str, str]
) -> str | None:
    """Why the round's controls failed, or None where all were refused as they must be."""
    if controls.duplicate not in duplicates:
        return f"DUPLICATE_MISSED: control {controls.duplicate} was not recognised as a copy"
    members = best.mixture.ids
    each = best.mixture.lam / len(members) if members else LONE_LAM
    for name, control in (("NULL", controls.null), ("NOISE", controls.noise)):
        trial = search.weigh((*members, control), each * (len(members) + 1))
        if trial is None or search.keeps(trial, best):
            return f"{name}_ACCEPTED: control {control} passed the test that members pass"
    return None


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
    if gain > search.rule.min_gain:
        text = "it helps, but a mixture without it is better"
        return Reason(False, "OUTSHONE", text, "train on from the next base", gain)
    text = "without it the mixture loses nothing that counts"
    return Reason(False, "NO_GAIN", text, "train longer or on more rows", gain)
