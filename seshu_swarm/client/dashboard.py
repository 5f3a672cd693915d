"""`client status --web`: the run as a page for anyone with its link.

From signed records, and from the public ledger that the run's coordinator names in one: nothing else,
so that everybody can look without asking the maintainer's machine for a page.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from seshu_swarm.client.config import StatusConfig
from seshu_swarm.client.terminal.looking import look
from seshu_swarm.dashboard.board import Board
from seshu_swarm.dashboard.public import PublicLedger, only_a_ledger, read_ledger
from seshu_swarm.dashboard.seen import peers_of, remembered
from seshu_swarm.dashboard.serving import listening, serve
from seshu_swarm.dashboard.snapshot import Peer, Round, Run, Snapshot, Training
from seshu_swarm.errors import SeshuError
from seshu_swarm.program.running import Stop
from seshu_swarm.records import uids
from seshu_swarm.records.kinds import LedgerRecord, RoundRecord, RunRecord, TrainingRecord
from seshu_swarm.run.joining import Joined, join
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 10.0
# How long fetching the ledger may take, and how long after a failure it is left alone.
FETCH_SECONDS, RETRY_SECONDS = 8.0, 60.0
SOURCE = (
    "Read from the records that peers sign, and from the ledger that the coordinator publishes."
)


async def show(settings: StatusConfig, web: str, stop: Stop) -> int:
    """Serve at HOST:PORT until stopped. Raises JoinError, PortTakenError, UsageError."""
    with listening(web) as listener:
        joined = await join(settings)
        try:
            board = Board(Signed(joined), refresh_seconds=REFRESH_SECONDS)
            await serve(board, listener, stop)
        finally:
            await joined.swarm.leave()
    return 0


class Signed:
    """The `Source` of one run, as a member of its swarm sees it."""

    def __init__(self, joined: Joined, clock: Callable[[], float] = time.time) -> None:
        self._joined, self._clock = joined, clock
        self._peers: tuple[Peer, ...] = ()
        self._digest: str | None = None
        self._ask_at = 0.0
        self._ledger: PublicLedger | None = None

    async def snapshot(self) -> Snapshot:
        """Raises DeadlineError, ForkError."""
        await self._follow()
        found = await look(self._joined)
        now = self._clock()
        self._peers = remembered(self._peers, peers_of(found.spans, now), now)
        await self._fetch_ledger()
        told = self._ledger or PublicLedger(
            _training(found.training), tuple(map(_round, reversed(found.rounds))), (), ()
        )
        return Snapshot(
            taken_at=now,
            source=SOURCE,
            run=_run(found.run, str(self._joined.link)),
            peers=self._peers,
            **vars(told),
        )

    def file(self, revision: str, name: str) -> Path | None:
        """Weights are the coordinator's to give out, and the swarm's."""
        return None

    async def _follow(self) -> None:
        newest = await self._joined.swarm.current_run(self._joined.link)
        if newest is not None:
            self._joined = replace(self._joined, found=newest)

    async def _fetch_ledger(self) -> None:
        """The newest that the coordinator signed; the one before stays where it cannot be had."""
        joined = self._joined
        keys = [uids.ledger_key(joined.run.run_id)]
        found = await joined.swarm.lookup(keys, LedgerRecord)
        own = [one.record for one in found if one.owner == joined.coordinator]
        newest = max(own, key=lambda record: record.sequence, default=None)
        if newest is None or newest.digest == self._digest or self._clock() < self._ask_at:
            return
        folder = joined.package_folder(newest.digest)
        try:
            store = SwarmStore(joined.swarm, [joined.coordinator], admit=only_a_ledger)
            async with asyncio.timeout(FETCH_SECONDS):
                await store.fetch(Reference.of_swarm(newest.digest), folder)
            self._ledger, self._digest = read_ledger(folder), newest.digest
        except (SeshuError, TimeoutError) as error:
            # A coordinator that is away must not keep the page from showing who is there.
            self._ask_at = self._clock() + RETRY_SECONDS
            logger.info("the public ledger is not to be had: %s", error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _run(record: RunRecord, link: str) -> Run:
    return Run(
        run_id=record.run_id,
        revision=record.revision,
        num_blocks=record.num_blocks,
        d_model=record.d_model,
        num_parameters=record.num_parameters,
        languages=record.languages,
        licence=record.licence,
        round_index=record.round_index,
        round_state=record.round_state,
        round_closes_at=record.round_closes_at,
        link=link,
    )


def _round(record: RoundRecord) -> Round:
    return Round(
        number=record.round_index,
        state=record.state,
        opened_at=0.0,
        revision=record.revision,
        reason=record.reason,
        num_adapters=record.num_accepted + record.num_rejected,
        num_accepted=record.num_accepted,
    )


def _training(record: TrainingRecord | None) -> Training | None:
    if record is None:
        return None
    return Training(
        plan=record.plan,
        state=record.state,
        step=None,
        num_steps=record.num_steps,
        boundaries=record.boundaries,
    )
