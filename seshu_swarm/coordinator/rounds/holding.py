"""Holding rounds: open one, collect adapters, have them decided upon, tell the swarm.

A round that was killed is taken up where it was: what it takes and decides is in the ledger.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Awaitable
from typing import Protocol

from seshu_swarm.coordinator.blind.judging import FinalWord
from seshu_swarm.coordinator.blind.results import final_of_json, gate_of_json
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.rounds import gather, report
from seshu_swarm.coordinator.rounds.deciding import Decider
from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.rounds.report import Decided
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState, Window
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import PeerError, RoundError, SeshuError
from seshu_swarm.evaluate.accept import is_worn
from seshu_swarm.network.dht import Swarm
from seshu_swarm.program import log
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import RoundRecord
from seshu_swarm.stores.base import Store
from seshu_swarm.stores.file import FileStore
from seshu_swarm.stores.hub import HubStore
from seshu_swarm.stores.limits import only_an_adapter
from seshu_swarm.stores.swarm import SwarmStore

logger = logging.getLogger(__name__)

LOOK_UP_SECONDS = 15.0
TICK_SECONDS = 0.25


class Herald(Protocol):
    """Who tells others of a round."""

    async def announce(self) -> None:
        """Tell the swarm what changed."""
        ...

    async def release(self) -> None:
        """Put papers beside what was published, and push it."""
        ...


class RoundHolder:
    """Holds rounds until stopped."""

    def __init__(
        self,
        swarm: Swarm,
        folder: RunFolder,
        ledger: Ledger,
        settings: RunConfig,
        *,
        intake: Intake,
        herald: Herald,
    ) -> None:
        self._swarm, self._folder, self._ledger = swarm, folder, ledger
        self._settings, self._intake, self._herald = settings, intake, herald

    async def hold(self, stop: Stop) -> None:
        await self._mend_reports()
        await self._herald.release()
        held = 0
        while not stop.is_set() and held != self._settings.rounds:
            try:
                current = self._take_up_or_begin()
            except RoundError as error:
                # Hosting and sessions go on; whoever reads the log or the status learns why.
                log.event("no-rounds", f"no more rounds: {error}", reason=str(error))
                break
            await _try(self._herald.announce(), "announcing the round")
            if not await self._collect(current, stop):
                return
            await self._finish(current)
            held += 1
        await stop.wait()

    def _take_up_or_begin(self) -> Round:
        rounds = self._ledger.rounds()
        if rounds and rounds[-1].state not in ENDED:
            return rounds[-1]
        self._renew_gate()
        current = self._ledger.begin_round(
            parent=self._ledger.fact("revision"),
            seed=secrets.randbits(48),
            closes_at=time.time() + self._settings.round_seconds,
        )
        text = f"round {current.number} takes adapters for {self._settings.round_seconds:.0f} s"
        log.event("round-open", text, round=current.number, parent=current.parent)
        return current

    def _renew_gate(self) -> None:
        """A gate set that is worn gives way. Raises RoundError where a role has no set left."""
        hold_outs = HoldOuts(self._folder, self._ledger.database)
        gate = hold_outs.in_use(Role.GATE)
        why = self._worn(gate.name)
        if why:
            hold_outs.retire(gate.name)
            text = f"{gate.name} {why} and is retired; reveal it"
            log.event("retired", text, hold_out=gate.name, reason=why)
        for role in Role:
            hold_outs.in_use(role)

    def _worn(self, gate: str) -> str:
        """Why a gate set can no longer be believed, or nothing."""
        readings = Readings(self._ledger.database).count(gate)
        if readings >= self._settings.gate_readings:
            return f"was read {readings} times"
        decisions, pairs = Decisions(self._ledger.database), []
        for ended in self._ledger.rounds():
            read = decisions.of(ended.number, RoundState.GATING)
            final = decisions.of(ended.number, RoundState.VERIFYING)
            if read and final and read["hold_out"] == gate:
                seen, word = gate_of_json(read).comparisons, final_of_json(final).comparisons
                pairs.append((seen.gains, word.gains))
        return "sees more and more that the final set does not" if is_worn(pairs) else ""

    async def _collect(self, current: Round, stop: Stop) -> bool:
        """Wait for adapters; False if stopped first."""
        window = Window(current.closes_at, self._settings.close_after)
        looked_up, seen = 0.0, 0
        while current.state is RoundState.OPEN:
            if time.monotonic() - looked_up > LOOK_UP_SECONDS:
                await self._look_up()
                looked_up = time.monotonic()
            adapters = self._ledger.adapters(current.number)
            if len(adapters) > seen:
                seen = len(adapters)
                log.event("adapters", f"{seen} adapter(s) handed in", count=seen)
            if window.is_over(time.time(), self._ledger.count_new_adapters(current.number)):
                await self._look_up()
                return True
            if not await stop.sleep(TICK_SECONDS):
                return False
        return True

    async def _look_up(self) -> None:
        await _try(gather.look_up(self._swarm, self._intake), "looking for adapters in the DHT")

    async def _finish(self, current: Round) -> None:
        decider = Decider(self._folder, self._ledger, current, self._settings, store_of=self._store)
        try:
            revision, word = await decider.decide()
        except RoundError as reason:
            decided = Decided.of(decider.ids, decider.selection)
            await self._abort(current, decided, str(reason))
        else:
            decided = Decided.of(decider.ids, decider.selection)
            await self._publish(current, decided, revision, word)
        # What scorers were handed is needed no more.
        shutil.rmtree(self._folder.scoring_of(current.number), ignore_errors=True)
        await self._herald.release()

    async def _abort(self, current: Round, decided: Decided, reason: str) -> None:
        await self._end(current, RoundState.ABORTED, decided, reason=reason)
        report.write(self._folder, report.aborted(self._ledger, current, reason))

    async def _publish(
        self, current: Round, decided: Decided, revision: str, word: FinalWord
    ) -> None:
        await self._end(current, RoundState.PUBLISHED, decided, revision=revision)
        checkpoint = self._folder.package(revision)
        report.write(self._folder, report.published(self._ledger, current, checkpoint, word))

    async def _mend_reports(self) -> None:
        """A coordinator that was killed right after a round's end has left it without a report."""
        decisions = Decisions(self._ledger.database)
        for ended in self._ledger.rounds():
            if ended.state not in ENDED or self._folder.report(ended.number).exists():
                continue
            found = decisions.of(ended.number, RoundState.VERIFYING)
            if ended.revision and found:
                word, checkpoint = final_of_json(found), self._folder.package(ended.revision)
                facts = report.published(self._ledger, ended, checkpoint, word)
            else:
                facts = report.aborted(self._ledger, ended, ended.reason)
            report.write(self._folder, facts)
            record = self._record(ended, ended.revision, ended.reason)
            await _try(self._swarm.announce(record), "announcing its end")

    def _store(self, scheme: str) -> Store:
        match scheme:
            case "swarm":
                return SwarmStore(self._swarm, admit=only_an_adapter)
            case "hf":
                return HubStore(admit=only_an_adapter)
            case _ if self._settings.host == "127.0.0.1":
                return FileStore(self._folder.packages, admit=only_an_adapter)
            case _:
                raise SeshuError(
                    "file:// references are followed only by a coordinator on 127.0.0.1",
                    rule="another machine's folders are not ours",
                    way_out="push with --store swarm or --store hub",
                )

    async def _end(
        self,
        current: Round,
        state: RoundState,
        decided: Decided,
        *,
        revision: str | None = None,
        reason: str = "",
    ) -> None:
        is_published = revision is not None
        found = report.judgements(self._ledger, current, decided, is_published=is_published)
        self._ledger.end_round(current, state, judgements=found, reason=reason, revision=revision)
        await _try(
            self._swarm.announce(self._record(current, revision, reason)), "announcing its end"
        )
        await _try(self._herald.announce(), "announcing the run")

    def _record(self, current: Round, revision: str | None, reason: str) -> RoundRecord:
        verdicts = report.verdicts(self._ledger, current)
        num_accepted = sum(bool(v["accepted"]) for v in verdicts)
        return RoundRecord(
            run_id=self._swarm.run_id,
            round_index=current.number,
            parent=current.parent,
            revision=revision,
            state="published" if revision else "aborted",
            num_accepted=num_accepted,
            num_rejected=len(verdicts) - num_accepted,
            reason=reason[:300],
        )


async def _try(work: Awaitable[object], doing: str) -> None:
    """A slow DHT holds up no round: what is announced is announced again in seconds."""
    try:
        await work
    except PeerError as error:
        logger.warning("%s failed: %s", doing, error)
