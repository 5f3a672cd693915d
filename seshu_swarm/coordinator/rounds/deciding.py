"""From the adapters of a closed round to what becomes of them, one decision after another.

    gathering → checking → selecting → gating → verifying

Each phase writes its decision into the ledger before the next begins, and reads it from there when
it is there already: killed at any moment, a round decides nothing twice and ends with the same
digest. Scoring happens in processes that know no names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from seshu_swarm import checkpoints
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.blind import results
from seshu_swarm.coordinator.blind.judging import FinalWord, budget_of, deltas_of
from seshu_swarm.coordinator.blind.search import SelectionRule
from seshu_swarm.coordinator.blind.selecting import Selection
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.opening.standing import standing
from seshu_swarm.coordinator.releasing import publish
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.candidates import (
    Candidates,
    admit_candidates,
    read_candidates,
)
from seshu_swarm.coordinator.rounds.fetching import fetch_all
from seshu_swarm.coordinator.rounds.jobs import ScoringJobs
from seshu_swarm.coordinator.rounds.repeating import asked_before
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import DeadlineError, RoundError
from seshu_swarm.evaluate.accept import AcceptRule
from seshu_swarm.program import log
from seshu_swarm.stores.base import Store

# The search sees a point estimate on little text, the gate a bound: it must leave room.
TUNING_HARM_SHARE = 0.25
_ORDER = list(RoundState)

Facts = dict[str, Any]


class Decider:
    """Decides one round. `selection` is set once it is known, for the verdicts."""

    def __init__(
        self,
        folder: RunFolder,
        ledger: Ledger,
        current: Round,
        settings: RunConfig,
        *,
        store_of: Callable[[str], Store],
    ) -> None:
        self._folder, self._ledger, self._current = folder, ledger, current
        self._settings, self._store_of = settings, store_of
        self._decisions = Decisions(ledger.database)
        self._jobs = ScoringJobs(folder, ledger, current, seconds=settings.score_seconds)
        self._missing: dict[str, gather.Refused] = {}
        self.selection: Selection | None = None
        self.ids: dict[str, str] = {}

    async def decide(self) -> tuple[str, FinalWord]:
        """The new revision and its final word. Raises RoundError: the round publishes nothing."""
        try:
            await self._gather()
            candidates = await self._check()
            self.selection = await self._select(candidates)
            mixture = self.selection.mixture
            await self._gate(candidates, mixture)
            return await self._verify(candidates, mixture)
        except DeadlineError as late:
            raise RoundError(f"the round ran out of time: {late}") from late

    async def _decided(
        self, state: RoundState, work: Callable[[], Awaitable[Facts]], part: str = ""
    ) -> Facts:
        """Enter the phase, and what was decided in it: from the ledger, or now."""
        self._enter(state)
        name = f"{state}{part}"
        found = self._decisions.of(self._current.number, name)
        if found is None:
            found = self._decisions.note(self._current.number, name, await work())
        return found

    def _enter(self, state: RoundState) -> None:
        """Move on to `state`; a round that was taken up may be there, or further, already."""
        number = self._current.number
        if _ORDER.index(self._ledger.round(number).state) < _ORDER.index(state):
            self._ledger.move_round(number, state)
            log.event("phase", f"round {number}: {state}", phase=state, round=number)

    async def _gather(self) -> None:
        async def work() -> Facts:
            refused = await fetch_all(
                self._ledger,
                self._current.number,
                folder_of=self._folder.adapter,
                store_of=self._store_of,
                seconds=self._settings.gather_seconds,
            )
            return {digest: list(why) for digest, why in refused.items()}

        found = await self._decided(RoundState.GATHERING, work)
        self._missing = {digest: gather.Refused(*why) for digest, why in found.items()}

    async def _check(self) -> Candidates:
        async def work() -> Facts:
            return await asyncio.to_thread(
                admit_candidates,
                self._folder,
                self._ledger,
                self._current,
                missing=self._missing,
                rule=self._read_rule(),
                scored=self._scored(),
            )

        found = await self._decided(RoundState.CHECKING, work)
        self.ids = found["ids"]
        if not self.ids:
            count = len(self._ledger.adapters(self._current.number))
            raise RoundError(f"{count} adapter(s) handed in, none passed the checks")
        digests = list(self.ids.values())
        if earlier := asked_before(self._folder, self._ledger, self._current, digests):
            raise RoundError(
                f"nothing new: the same {len(digests)} adapter(s) as in round {earlier}, which came to nothing"
            )
        return await asyncio.to_thread(read_candidates, self._folder, self._current, found)

    def _read_rule(self) -> gather.ReadRule:
        return gather.ReadRule(
            checkpoints.read_shape(self._folder.package(self._current.parent)),
            max_rank=self._settings.max_rank,
            max_adapters=self._settings.max_adapters,
        )

    def _scored(self) -> list[str]:
        """Languages in which the gate can show a gain, before any candidate is seen."""
        power, _ = standing(self._folder, self._ledger)
        return [one.language for one in power if one.is_scored]

    async def _select(self, candidates: Candidates) -> Selection:
        methods = self._settings.methods
        rule = SelectionRule(
            budget=self._settings.score_calls or budget_of(len(candidates.ids)) + len(methods),
            min_gain=self._settings.min_gain,
            no_harm=TUNING_HARM_SHARE * AcceptRule().no_harm_margin,
            methods=methods,
            scored=candidates.scored,
        )

        async def work() -> Facts:
            return await self._jobs.choose(candidates, rule)

        selection = results.selection_of_json(await self._decided(RoundState.SELECTING, work))
        if selection.void:
            raise RoundError(f"the round is void: {selection.void}")
        return selection

    async def _gate(self, candidates: Candidates, mixture: Mixture) -> None:
        if not mixture.shares:
            text = "no mixture of the adapters is better than the base on the tuning split"
            raise RoundError(text)
        rule = AcceptRule(max_detectable=self._settings.max_detectable, scored=candidates.scored)

        async def work() -> Facts:
            return await self._jobs.decide(candidates, mixture, rule)

        found = await self._decided(RoundState.GATING, work)
        accepted, reasons = found["verdict"]["accepted"], found["verdict"]["reasons"]
        text = "; ".join(reasons)
        log.event("gate", f"gate: {text}", accepted=accepted, reasons=reasons)
        if not accepted:
            raise RoundError(f"the gate said no: {text}")

    async def _verify(self, candidates: Candidates, mixture: Mixture) -> tuple[str, FinalWord]:
        """Write the merged checkpoint and read the final split with it."""
        recipe = publish.recipe_of(
            mixture,
            candidates.ids,
            parent=self._current.parent,
            round_number=self._current.number,
        ) | {"max_norm": candidates.max_norm}

        async def merge() -> Facts:
            delta = mixture.delta(deltas_of(candidates.adapters))
            return {
                "revision": await asyncio.to_thread(
                    publish.write_merged, self._folder, delta, recipe
                )
            }

        async def conclude() -> Facts:
            return await self._jobs.conclude(revision)

        revision = str((await self._decided(RoundState.VERIFYING, merge, ": merged"))["revision"])
        word = results.final_of_json(await self._decided(RoundState.VERIFYING, conclude))
        mean = sum(word.after[name] - word.before[name] for name in word.before)
        # Written so that a number that is none does not pass.
        if not mean < 0:
            publish.discard(self._folder, revision)
            raise RoundError(f"the final split disagrees with the gate: {mean:+.4f} bits per byte")
        return revision, word
