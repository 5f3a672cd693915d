"""A whole swarm on loopback whose loop turns in a thread: for clients that wait in this one.

A coordinator that gives out the tiny checkpoint, hosts that serve sessions and gradients, a link.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from seshu_swarm.exchange.gradients import GRADIENTS
from seshu_swarm.network import round_trips
from seshu_swarm.network.dht import Swarm
from seshu_swarm.network.link import Link
from seshu_swarm.network.round_trips import PINGS
from seshu_swarm.peer.gradients import GradientService
from seshu_swarm.peer.guest import Guest
from seshu_swarm.records.kinds import ANNOUNCE_SECONDS, SpanRecord
from seshu_swarm.spans import Span
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.streams.protocol import BLOBS
from tests.loopback import RUN_ID, Loopback
from tests.samples import run_record, span_record
from tests.spans import Host, make_guest, start_host

if TYPE_CHECKING:
    from tests.conftest import TinyCheckpoint

T = TypeVar("T")


class Online(Loopback):
    """`Loopback` whose peers answer while the test's own thread waits."""

    def __init__(self, folder: Path, tiny: TinyCheckpoint) -> None:
        super().__init__(folder)
        self.tiny = tiny
        self.hosts: dict[str, Host] = {}
        self.gradients: dict[str, GradientService] = {}
        self._killed: list[Swarm] = []
        self._records: dict[str, SpanRecord] = {}
        self._computing = ThreadPoolExecutor(1)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._coordinator()
        self._announcing = asyncio.run_coroutine_threadsafe(self._announce_again(), self.loop)

    def run(self, work: Coroutine[Any, Any, T], *, seconds: float = 60.0) -> T:
        if not self._thread.is_alive():
            return super().run(work, seconds=seconds)
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def _coordinator(self) -> None:
        """The first peer: the run's record, and the checkpoint."""
        swarm, root = self.join("coordinator"), self.folder / "packages"
        shutil.copytree(self.tiny.folder, root / self.tiny.revision)
        policy, kept = HolderPolicy(takes_adapters=False), list[str]()
        holder = Holder(root, policy=policy, allow_upload=lambda _: True, on_stored=kept.append)
        self.run(swarm.serve(BLOBS, holder.serve))
        record = run_record(self.identity("coordinator"), revision=self.tiny.revision)
        assert self.run(swarm.announce(record))

    @property
    def link(self) -> str:
        fingerprint = self.identity("coordinator").fingerprint
        return str(Link(RUN_ID, fingerprint, tuple(self.addresses)))

    def host(
        self, name: str, span: Span, *, step_seconds: float = 0.01, guest: Guest | None = None
    ) -> Host:
        """A peer that serves and announces `span`; the smaller `step_seconds`, the sooner chosen."""
        guest = guest or make_guest(self.folder / name)
        host = start_host(self, self.tiny, name, span, guest=guest, max_sessions=64)
        served = host.service._served.get
        service = GradientService(served, guest, self._computing)
        self.run(host.swarm.serve(GRADIENTS, service.serve))
        self.run(host.swarm.serve(PINGS, round_trips.answer))
        self.hosts[name], self.gradients[name] = host, service
        self.announce(name, step_seconds=step_seconds)
        return host

    def announce(self, name: str, **fields: Any) -> None:
        host = self.hosts[name]
        record = span_record(host.span.start, host.span.end, self.tiny.revision, **fields)
        self._records[name] = record
        assert self.run(host.swarm.announce(record))

    async def _announce_again(self) -> None:
        """As hosts do, before their records expire."""
        while True:
            await asyncio.sleep(ANNOUNCE_SECONDS)
            for name, host in list(self.hosts.items()):
                await host.swarm.announce(self._records[name])

    def kill(self, name: str) -> None:
        """The machine of a host is gone: nobody says goodbye, its record stays for a while."""
        swarm = self.hosts.pop(name).swarm
        os.kill(swarm._p2p._child.pid, signal.SIGKILL)
        self._swarms.remove(swarm)
        self._killed.append(swarm)

    def close(self) -> None:
        self._announcing.cancel()
        for swarm in self._killed:
            self.run(swarm._p2p.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10.0)
        super().close()
        self._computing.shutdown()
