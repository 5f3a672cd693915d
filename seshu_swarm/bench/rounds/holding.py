"""One round after another over the same base, as a coordinator decides them: choose, then the gate.

Gate sets are read at most so often, each reading at its own share of alpha; then the next set is
drawn. Holds no ledger and no network, and publishes nothing: the base stays the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.bench.rounds.world import World
from seshu_swarm.coordinator.blind.judging import budget_of, choose, decide
from seshu_swarm.coordinator.blind.scoring import Comparisons
from seshu_swarm.coordinator.blind.search import SelectionRule
from seshu_swarm.coordinator.blind.selecting import Selection
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.evaluate.accept import AcceptRule, Verdict

TUNING_HARM_SHARE = 0.25  # of the gate's margin: the search sees a point estimate


@dataclass(frozen=True)
class Held:
    """`verdict` is None where the round came to nothing before the gate was read."""

    selection: Selection
    verdict: Verdict | None

    @property
    def accepted(self) -> tuple[str, ...]:
        """Ids that a coordinator would have merged and published."""
        passed = self.verdict is not None and self.verdict.accepted
        return self.selection.chosen if passed else ()


class Holder:
    """Holds rounds with the settings that a run has unless told otherwise."""

    def __init__(self, world: World) -> None:
        self._world, self._settings = world, RunConfig()
        self._rule = AcceptRule(max_detectable=self._settings.max_detectable)
        self.readings = 0

    def hold(self, candidates: Mapping[str, Adapter], languages: Mapping[str, str]) -> Held:
        """Candidates by id, and the languages that their donors declared."""
        selection = choose(
            self._world.base,
            self._world.tuning,
            candidates,
            languages=languages,
            rule=SelectionRule(
                budget=budget_of(len(candidates)),
                min_gain=self._settings.min_gain,
                no_harm=TUNING_HARM_SHARE * self._rule.no_harm_margin,
                methods=self._settings.methods,
            ),
            seed=self._world.sizes.seed,
        )
        if selection.void or not selection.chosen:
            return Held(selection, None)
        return Held(selection, self._decide(selection.mixture, candidates))

    def compare(self, mixture: Mixture, candidates: Mapping[str, Adapter]) -> Comparisons:
        """A mixture against the base on the final split."""
        world = self._world
        word = decide(world.base, world.final, candidates, mixture, test_index=1, rule=self._rule)
        return word.comparisons

    def _decide(self, mixture: Mixture, candidates: Mapping[str, Adapter]) -> Verdict:
        number, earlier_readings = divmod(self.readings, self._settings.gate_readings)
        self.readings += 1
        word = decide(
            self._world.base,
            self._world.gate(number),
            candidates,
            mixture,
            test_index=earlier_readings + 1,
            rule=self._rule,
        )
        return word.verdict
