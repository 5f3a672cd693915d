"""Life of a hosting peer: join, choose a span, fetch its blocks, serve, follow revisions, leave.

The hosting path imports no transformers, peft or datasets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from seshu_swarm import checkpoints
from seshu_swarm.errors import MemoryLimitError, SeshuError
from seshu_swarm.exchange.gradients import GRADIENTS
from seshu_swarm.exchange.session_messages import PUSHES
from seshu_swarm.network import round_trips
from seshu_swarm.network.round_trips import PINGS
from seshu_swarm.peer import memory, status
from seshu_swarm.peer.choosing import choose_blocks
from seshu_swarm.peer.config import HostConfig
from seshu_swarm.peer.gradients import GradientService
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.keeping import Keeper, policy_of
from seshu_swarm.peer.moving import Mover
from seshu_swarm.peer.served import ServedSpan, bytes_to_host
from seshu_swarm.peer.serving import SpanService
from seshu_swarm.program import log, running, waits
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import ANNOUNCE_SECONDS, ProviderRecord, SpanRecord
from seshu_swarm.run.following import Follower
from seshu_swarm.run.joining import Joined, packages_of
from seshu_swarm.spans import Span
from seshu_swarm.stores.holder import Holder
from seshu_swarm.stores.references import Reference
from seshu_swarm.streams.protocol import BLOBS, SESSIONS

logger = logging.getLogger(__name__)

STORE_AGAIN_SECONDS = 60.0
GOODBYE_SECONDS = 0.5
DRAIN_SECONDS = 8.0
HAND_OVER_POLL_SECONDS = 0.05


class HostingPeer:
    """One span, of one revision or, while the swarm rolls to the next, of two. `facts`: what the owner's
    status says beside, or instead of, what hosting has to say."""

    def __init__(self, joined: Joined, settings: HostConfig, guest: Guest) -> None:
        self._joined, self._settings, self._guest = joined, settings, guest
        self._swarm = joined.swarm
        self._service = SpanService(joined.swarm, guest, settings.max_sessions)
        self._revision = joined.run.revision
        self._held: set[str] = set()
        self._keeper = Keeper(
            packages_of(joined.state_dir), joined.swarm, is_keeping=settings.hold_adapters
        )
        self._holder = Holder(
            packages_of(joined.state_dir),
            policy=policy_of(settings.hold_adapters),
            allow_upload=guest.allow_upload,
            on_stored=self._keeper.add,
        )
        self._follower = Follower(joined)
        self._span = Span(0, 1)
        self.facts: Callable[[], dict[str, Any]] = dict

    @property
    def computing(self) -> Executor:
        """One thread, in which all that this peer computes takes its turn."""
        return self._service.engine.executor

    async def live(self, stop: Stop, *, span: Span | None = None) -> None:
        """Until `stop`; `span`: blocks that were chosen elsewhere, and stay."""
        self._span = span or await choose_blocks(self._joined, self._settings, self._guest)
        await self._load(self._revision, self._span)
        await self._swarm.serve(BLOBS, self._holder.serve)
        await self._swarm.serve(SESSIONS, self._service.serve)
        await self._swarm.serve(PUSHES, self._service.serve_pushes)
        await self._swarm.serve(PINGS, round_trips.answer)
        gradients = GradientService(self._service.served, self._guest, self.computing)
        await self._swarm.serve(GRADIENTS, gradients.serve)
        await self._announce()
        # It takes SIGUSR1, which would end a process that is ready.
        mover = self._mover(stays=bool(span or self._settings.blocks))
        running.settle()
        text = f"ready hosting blocks {self._span} as peer {self._swarm.peer_id}"
        log.event("ready", text, peer_id=self._swarm.peer_id, blocks=str(self._span))
        stop.grace_seconds = DRAIN_SECONDS + 2 * GOODBYE_SECONDS
        await asyncio.gather(
            running.repeat(stop, ANNOUNCE_SECONDS, self._announce),
            running.repeat(stop, self._settings.poll_seconds, self._follow),
            running.repeat(stop, STORE_AGAIN_SECONDS, self._store_run_again),
            mover.live(stop),
            self._keeper.live(stop),
        )
        await self._say_goodbye()

    async def _fetch(self, revision: str, span: Span) -> Path:
        folder = self._joined.package_folder(revision)
        names = checkpoints.files_for_span(span)
        with waits.waiting(f"blocks {span} of revision {revision[:12]}"):
            await self._joined.store.fetch(Reference.of_swarm(revision), folder, names)
        return folder

    async def _load(self, revision: str, span: Span) -> None:
        folder = await self._fetch(revision, span)
        self._guest.need_memory(bytes_to_host(folder, span), f"blocks {span}")
        loading = asyncio.to_thread(ServedSpan.load, folder, revision, span)
        self._service.load(await loading)
        self._held.add(revision)

    async def _follow(self) -> None:
        """Fetch this span's blocks of a new revision; the old stays while sessions need it."""
        found = await self._follower.newest()
        if found and found.record.revision != self._revision:
            await self._load_beside(found.record.revision)
            self._revision = found.record.revision
            await self._announce()
            text = f"switched to revision {self._revision[:12]}"
            log.event("switched", text, revision=self._revision, blocks=str(self._span))
        if retired := self._service.retire(self._revision):
            memory.give_back()
            log.event("retired", f"retired {len(retired)} revision(s)", revisions=retired)
            await self._announce()
        self._write_status()

    async def _load_beside(self, revision: str) -> None:
        """Both revisions, while sessions need the old one. Where there is no room for two, nobody is
        taken in any more, the old one's sessions are told, and it makes room."""
        try:
            await self._load(revision, self._span)
        except MemoryLimitError as error:
            if not self._service.revisions:
                raise
            logger.info("no room for two revisions: %s", error)
            self._service.is_draining = True
            try:
                await self._announce()
                await self._hand_over("REVISION_RETIRED")
                await self._make_room()
                await self._load(revision, self._span)
            finally:
                self._service.is_draining = False

    async def _make_room(self) -> None:
        """Serve nothing, and wait a moment for the last parts, which hold the weights; those whose
        client is gone expire later, and then the next poll finds room."""
        self._service.unload_all()
        deadline = asyncio.get_running_loop().time() + GOODBYE_SECONDS
        await asyncio.sleep(HAND_OVER_POLL_SECONDS)
        while self._service.num_sessions and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(HAND_OVER_POLL_SECONDS)
        memory.give_back()

    def _mover(self, *, stays: bool) -> Mover:
        seconds = 0.0 if stays else self._settings.rebalance_seconds
        return Mover(self._joined, seconds=seconds, move=self._move)

    async def _move(self, span: Span) -> None:
        """Hand the sessions over, then host other blocks of every revision served; where that fails, the
        old ones are hosted on. Nobody is told of blocks that are not loaded."""
        old, revisions = self._span, self._service.revisions
        for revision in revisions:
            await self._fetch(revision, span)
        self._service.is_draining = True
        try:
            await self._announce()
            await self._hand_over()
            await self._host_instead(span, revisions)
        finally:
            self._service.is_draining = False
            await self._announce()
        text = f"moved from blocks {old} to {span}"
        log.event("moved", text, blocks=str(span), before=str(old))

    async def _host_instead(self, span: Span, revisions: Sequence[str]) -> None:
        try:
            await self._load_all(revisions, span)
        except SeshuError:
            await self._load_all(revisions, self._span)
            raise
        self._span = span

    async def _load_all(self, revisions: Sequence[str], span: Span) -> None:
        """Where there is no room for old and new blocks, the old ones go first."""
        try:
            for revision in revisions:
                await self._load(revision, span)
        except MemoryLimitError as error:
            logger.info("no room for old and new blocks: %s", error)
            await self._make_room()
            for revision in revisions:
                await self._load(revision, span)

    async def _announce(self) -> None:
        await self._swarm.announce(
            SpanRecord(
                run_id=self._swarm.run_id,
                start=self._span.start,
                end=self._span.end,
                revisions=self._service.revisions[-4:],
                step_seconds=self._service.engine.pace.seconds,
                num_sessions=self._service.num_sessions,
                is_draining=self._service.is_draining,
                paused=self._guest.pause_reason(),
                limits=str(self._guest.limits)[:300],
            )
        )
        for digest in list(self._held):
            await self._swarm.announce(ProviderRecord(run_id=self._swarm.run_id, digest=digest))

    async def _say_goodbye(self) -> None:
        """Take no more sessions, and let those that there are move on with their states."""
        self._service.is_draining = True
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._announce()
        except TimeoutError:
            logger.info("left without a goodbye: the DHT did not answer")
        await self._hand_over()
        await self._service.close()
        self._guest.flush()

    async def _hand_over(self, why: str = "DRAINING") -> None:
        """Until the last session has gone elsewhere, or time is up."""
        deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
        told = self._service.notify(why)
        with waits.waiting("sessions to move on", DRAIN_SECONDS):
            while self._service.num_attended and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(HAND_OVER_POLL_SECONDS)
        if told:
            left = self._service.num_attended
            text = f"handed over {told - left} of {told} session(s)"
            log.event("handed_over", text, sessions=told, left=left)

    async def _store_run_again(self) -> None:
        if found := await self._follower.newest():
            await self._swarm.store_again(found)

    def _write_status(self) -> None:
        facts: dict[str, Any] = {
            "role": "host",
            "run": self._swarm.run_id,
            "blocks": str(self._span),
            "revision": self._revision,
            "sessions": self._service.num_sessions,
            "steps": self._service.engine.num_steps,
            "tokens": self._service.engine.num_tokens,
        }
        status.write(self._joined.state_dir, guest=self._guest, **facts | self.facts())
