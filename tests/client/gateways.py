"""A gateway over real peers on loopback, answered by a real uvicorn in the loop of `Loopback`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
from openai import AsyncOpenAI

from seshu_swarm import checkpoints
from seshu_swarm.client.config import ServeConfig
from seshu_swarm.client.gateway.answering import Gateway
from seshu_swarm.client.gateway.keys import KeyRing
from seshu_swarm.client.gateway.limits import Allowances, Days
from seshu_swarm.client.gateway.models import Models
from seshu_swarm.client.gateway.serve import listen, listening
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.network import round_trips
from seshu_swarm.network.dht import Found, Swarm
from seshu_swarm.network.link import Link
from seshu_swarm.network.round_trips import PINGS
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import Joined
from seshu_swarm.spans import Span
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID, Loopback
from tests.samples import run_record, span_record
from tests.spans import Host, start_host


@dataclass
class Fleet:
    """Peers that host the tiny model, and the client that asks them."""

    loopback: Loopback
    tiny: TinyCheckpoint
    whole: WholeModel
    client: Swarm
    hosts: list[Host]

    def model(self, revision: str | None = None) -> RemoteModel:
        """The ends of the tiny model; under another revision nobody hosts its blocks."""
        return RemoteModel(self.joined(), self.whole.ends, revision or self.tiny.revision)

    def joined(self) -> Joined:
        owner = self.loopback.identity("client")
        run = run_record(owner, revision=self.tiny.revision)
        link = Link(RUN_ID, owner.fingerprint, ())
        return Joined(
            self.client, link, Found(run, self.client.peer_id, 0.0), self.loopback.folder / "client"
        )

    def start_host(self, name: str, span: Span) -> None:
        """A peer that hosts a span and answers to pings, which routes are chosen by."""
        host = start_host(self.loopback, self.tiny, name, span)
        self.loopback.run(host.swarm.serve(PINGS, round_trips.answer))
        self.hosts.append(host)

    async def announce(self) -> None:
        for host in self.hosts:
            record = span_record(host.span.start, host.span.end, self.tiny.revision)
            await host.swarm.announce(record)

    @property
    def num_sessions(self) -> int:
        return sum(host.service.num_sessions for host in self.hosts)

    @contextlib.asynccontextmanager
    async def serving(
        self,
        keys: KeyRing | None = None,
        *,
        revision: str | None = None,
        days: Days | None = None,
        **settings: Any,
    ) -> AsyncIterator[Site]:
        """A gateway that answers on a free port, until the block ends."""
        await self.announce()
        config = ServeConfig(http_port=0, **settings)
        stop, models = Stop(), Models(self.joined(), self.model(revision))
        gateway = Gateway(config, models, keys or KeyRing(), stop=stop, allowances=Allowances(days))
        with listening(config.http_host, config.http_port) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            answering = asyncio.create_task(listen(gateway, listener))
            async with httpx2.AsyncClient(base_url=url, timeout=30.0) as web:
                try:
                    yield Site(gateway, url, web)
                finally:
                    stop.set()
                    await answering


def start_fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    """Two peers, each with half of the blocks."""
    client = loopback.join("client")
    whole = checkpoints.load_whole(tiny.folder).eval().requires_grad_(False)
    fleet = Fleet(loopback, tiny, whole, client, [])
    for span in (Span(0, 2), Span(2, 4)):
        fleet.start_host(str(span), span)
    return fleet


@dataclass
class Site:
    """Where a gateway can be asked."""

    gateway: Gateway
    url: str
    web: httpx2.AsyncClient

    def openai(self, key: str = "none") -> AsyncOpenAI:
        """The official client; its retries would hide what is refused."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30.0)

    async def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        return await self.web.post(path, json=body, headers=headers)


async def until(condition: Any, *, seconds: float = 5.0) -> None:
    """Wait for something that happens on another task."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
