"""Holding a round: the thin loop around pure states, blind judging and publishing.

Every state is entered in the ledger before its work begins. Killed at any moment, the round is
taken up in the state it was in; seeds and ids come from the ledger, so the end is the same.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from seshu_swarm import checkpoints, log
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.coordinator.blind.held_out import read_held_out
from seshu_swarm.coordinator.blind.judging import FinalWord, Judge, Splits
from seshu_swarm.coordinator.blind.search import SelectionRule
from seshu_swarm.coordinator.blind.selecting import Selection
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.releasing import publish
from seshu_swarm.coordinator.rounds import gather, report
from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState, Window
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.dht import Swarm
from seshu_swarm.errors import RoundError, SeshuError
from seshu_swarm.evaluate.accept import AcceptRule
from seshu_swarm.progress import Bar
from seshu_swarm.records import RoundRecord
from seshu_swarm.running import Stop
from seshu_swarm.stores.base import Store
from seshu_swarm.stores.file import FileStore
from seshu_swarm.stores.hub import HubStore
from seshu_swarm.stores.swarm import SwarmStore

logger = logging.getLogger(__name__)

LOOK_UP_SECONDS = 15.0
TICK_SECONDS = 0.25
# The search sees a point estimate on little text, the gate a bound: it must leave room.
TUNING_HARM_SHARE = 0.25
_ORDER = list(RoundState)


class RoundHolder:
    """Holds rounds until stopped. `announce` tells the swarm what changed."""

    def __init__(
        self,
        swarm: Swarm,
        folder: RunFolder,
        ledger: Ledger,
        settings: RunConfig,
        *,
        intake: Intake,
        announce: Callable[[], Awaitable[None]],
    ) -> None:
        self._swarm, self._folder, self._ledger = swarm, folder, ledger
        self._settings, self._intake, self._announce = settings, intake, announce

    async def hold(self, stop: Stop) -> None:
        held = 0
        while not stop.is_set() and held != self._settings.rounds:
            current = self._take_up_or_begin()
            await self._announce()
            if not await self._collect(current, stop):
                return
            await self._finish(current)
            held += 1
        await stop.wait()

    def _take_up_or_begin(self) -> Round:
        rounds = self._ledger.rounds()
        if rounds and rounds[-1].state not in ENDED:
            return rounds[-1]
        current = self._ledger.begin_round(
            parent=self._ledger.fact("revision"),
            seed=secrets.randbits(48),
            closes_at=time.time() + self._settings.round_seconds,
        )
        text = f"round {current.number} takes adapters for {self._settings.round_seconds:.0f} s"
        log.event("round-open", text, round=current.number, parent=current.parent)
        return current

    async def _collect(self, current: Round, stop: Stop) -> bool:
        """Wait for adapters; False if stopped first."""
        window = Window(current.closes_at, self._settings.close_after)
        looked_up, seen = 0.0, 0
        while current.state is RoundState.OPEN:
            if time.monotonic() - looked_up > LOOK_UP_SECONDS:
                await gather.look_up(self._swarm, self._intake)
                looked_up = time.monotonic()
            adapters = self._ledger.adapters(current.number)
            if len(adapters) > seen:
                seen = len(adapters)
                log.event("adapters", f"{seen} adapter(s) handed in", count=seen)
            if window.is_over(time.time(), seen):
                return True
            if not await stop.sleep(TICK_SECONDS):
                return False
        return True

    async def _finish(self, current: Round) -> None:
        # A round that was taken up judges the same candidates again, with the same seed.
        self._ledger.forget_verdicts(current.number)
        try:
            await self._decide(current)
        except RoundError as reason:
            await self._end(current, RoundState.ABORTED, revision=None, reason=str(reason))
            report.write(self._folder, report.aborted(self._ledger, current, str(reason)))

    async def _decide(self, current: Round) -> None:
        adapters = await self._gather(current)
        ids = gather.strip_names(list(adapters), current.seed)
        candidates = {random_id: adapters[digest] for random_id, digest in ids.items()}
        languages = gather.languages_of(self._ledger, ids)
        judge = await asyncio.to_thread(self._judge, current, candidates)
        selection = await asyncio.to_thread(self._select, current, judge, languages)
        report.judge(self._ledger, selection, ids, accepted=False)
        await asyncio.to_thread(self._gate, current, judge, selection.mixture)
        revision, word = await self._verify(current, judge, selection.mixture, ids)
        report.judge(self._ledger, selection, ids, accepted=True)
        self._ledger.set_fact("revision", revision)
        await self._end(current, RoundState.PUBLISHED, revision=revision, reason="")
        checkpoint = self._folder.package(revision)
        outcome = report.published(self._ledger, current, checkpoint, word)
        report.write(self._folder, outcome)

    async def _gather(self, current: Round) -> dict[str, Adapter]:
        self._enter(current, RoundState.GATHERING)
        await gather.look_up(self._swarm, self._intake)
        await gather.fetch_all(
            self._ledger,
            current.number,
            folder_of=self._folder.adapter,
            store_of=self._store,
        )
        self._enter(current, RoundState.CHECKING)
        adapters = gather.read_all(
            self._ledger,
            current,
            shape=checkpoints.read_shape(self._folder.package(current.parent)),
            max_rank=self._settings.max_rank,
            folder_of=self._folder.adapter,
        )
        if not adapters:
            handed_in = len(self._ledger.adapters(current.number))
            raise RoundError(f"{handed_in} adapters were handed in, none passed the checks")
        return adapters

    def _store(self, scheme: str) -> Store:
        match scheme:
            case "swarm":
                return SwarmStore(self._swarm)
            case "hf":
                return HubStore()
            case _ if self._settings.host == "127.0.0.1":
                return FileStore(self._folder.packages)
            case _:
                raise SeshuError(
                    "file:// references are followed only by a coordinator on 127.0.0.1",
                    rule="another machine's folders are not ours",
                    way_out="push with --store swarm or --store hub",
                )

    def _judge(self, current: Round, candidates: dict[str, Adapter]) -> Judge:
        self._enter(current, RoundState.SELECTING)
        base = self._folder.package(current.parent)
        sets = HoldOuts(self._folder, self._ledger.database)
        splits = Splits(*(read_held_out(sets.path(sets.in_use(role).name)) for role in Role))
        return Judge(base, splits, candidates, seed=current.seed)

    def _select(self, current: Round, judge: Judge, languages: dict[str, str]) -> Selection:
        with Bar("scoring blind") as bar:
            selection = judge.select(
                languages,
                rule=SelectionRule(
                    budget=self._settings.score_calls,
                    min_gain=self._settings.min_gain,
                    no_harm=TUNING_HARM_SHARE * AcceptRule().no_harm_margin,
                ),
                report=lambda fraction, text: bar.update(fraction, doing=text),
            )
        if selection.void:
            raise RoundError(f"the round is void: {selection.void}")
        return selection

    def _gate(self, current: Round, judge: Judge, mixture: Mixture) -> None:
        if not mixture.shares:
            raise RoundError(
                "no mixture of the adapters is better than the base on the tuning split"
            )
        self._enter(current, RoundState.GATING)
        rule = AcceptRule(max_detectable=self._settings.max_detectable)
        verdict = judge.gate(mixture, test_index=current.number, rule=rule)
        text = "; ".join(verdict.reasons)
        log.event("gate", f"gate: {text}", accepted=verdict.accepted, reasons=verdict.reasons)
        if not verdict.accepted:
            raise RoundError(f"the gate said no: {text}")

    async def _verify(
        self, current: Round, judge: Judge, mixture: Mixture, ids: dict[str, str]
    ) -> tuple[str, FinalWord]:
        """Write the merged checkpoint and read the final split with it. Raises RoundError."""
        self._enter(current, RoundState.VERIFYING)
        recipe = publish.recipe_of(mixture, ids, parent=current.parent, round_number=current.number)
        writing = asyncio.to_thread(
            publish.write_merged, self._folder, judge.delta(mixture), recipe
        )
        revision = await writing
        word = await asyncio.to_thread(judge.final, self._folder.package(revision))
        mean = sum(word.after[name] - word.before[name] for name in word.before)
        if mean >= 0:
            publish.discard(self._folder, revision)
            raise RoundError(f"the final split disagrees with the gate: {mean:+.4f} bits per byte")
        publish.write_card(self._folder, revision, recipe, word)
        return revision, word

    def _enter(self, current: Round, state: RoundState) -> None:
        """Move on to `state`; a round that was taken up may be there already."""
        now = self._ledger.round(current.number).state
        if _ORDER.index(now) < _ORDER.index(state):
            self._ledger.move_round(current.number, state)
        log.event("phase", f"round {current.number}: {state}", phase=state, round=current.number)

    async def _end(
        self, current: Round, state: RoundState, *, revision: str | None, reason: str
    ) -> None:
        if state is RoundState.ABORTED:
            report.withdraw(self._ledger, current)
        self._ledger.move_round(current.number, state, reason=reason, revision=revision)
        verdicts = report.verdicts(self._ledger, current)
        num_accepted = sum(bool(v["accepted"]) for v in verdicts)
        record = RoundRecord(
            run_id=self._swarm.run_id,
            round_index=current.number,
            parent=current.parent,
            revision=revision,
            state="published" if revision else "aborted",
            num_accepted=num_accepted,
            num_rejected=len(verdicts) - num_accepted,
            reason=reason[:300],
        )
        await self._swarm.announce(record)
        await self._announce()
