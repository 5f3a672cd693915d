"""Hostile members of a run of real processes: on the true protocol, in this process, a key each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from seshu_swarm.errors import PeerError
from seshu_swarm.network import link as links
from seshu_swarm.pipeline.messages import Phase, Status, Version
from seshu_swarm.pipeline.protocol.converting import of_status
from seshu_swarm.pipeline.protocol.fields import to_version
from seshu_swarm.pipeline.protocol.passes import PASSES, AskStagePass, PassRequest, StagePassed
from seshu_swarm.pipeline.protocol.steps import (
    FROM_CONDUCTOR,
    HEARTBEAT_SECONDS,
    STEPS,
    Enlist,
    Enlisted,
    FedMessage,
    FeedMessage,
    OrderMessage,
)
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import Message
from tests.loopback import Loopback
from tests.peer.training.conducting import Peer

SECONDS = 10.0
T = TypeVar("T")


class Intruders(Loopback):
    """Peers of their own keys in the run of `link`; they act while the test's own thread waits."""

    def __init__(self, folder: Path, link: str) -> None:
        wanted = links.parse(link)
        super().__init__(folder, wanted.run_id)
        self._addresses = list(wanted.peers)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._count = 0

    def run(self, work: Coroutine[Any, Any, T], *, seconds: float = 60.0) -> T:
        if not self._thread.is_alive():
            return super().run(work, seconds=seconds)
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def another(self) -> Peer:
        self._count += 1
        return Peer(self.join(f"mallory-{self._count}"))

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SECONDS)
        super().close()


async def enlist(
    peer: Peer, conductor: str, asked: Enlist, *, seconds: float = SECONDS
) -> tuple[Channel, Enlisted]:
    """Raises RefusalError, and PeerError where nothing is answered."""
    channel = await peer.swarm.open(conductor, STEPS)
    await channel.send(asked)
    return channel, await channel.receive(Enlisted, seconds=seconds, what="a place")


async def ask_pass(peer: Peer, replica: str, asked: AskStagePass) -> StagePassed:
    """Raises PeerError."""
    channel = await peer.swarm.open(replica, PASSES)
    try:
        await channel.send(PassRequest(request=asked))
        return await channel.receive(StagePassed, seconds=SECONDS, what="a pass")
    finally:
        channel.close()


def fed_all(told: FeedMessage) -> FedMessage:
    """A trainer's word that all of its is counted everywhere; it asked nobody."""
    rounds = [group.round for group in told.groups]
    return FedMessage(
        step=max(0, told.step), rounds=rounds, asked=[{} for _ in rounds[1:]], nats=0.0, tokens=0
    )


@dataclass
class Puppet:
    """A member without weights that says `status`, as it was set or made of each order it hears."""

    peer: Peer
    plan: TrainingRecord
    group: int | None = None
    is_trainer: bool = False
    status: Status = field(default_factory=lambda: Status(Version(-1, -1), -1, Phase.OPEN))
    heard: list[Message] = field(default_factory=list)
    end: PeerError | None = None

    def __post_init__(self) -> None:
        self.name = self.peer.new_name()

    async def live(self, conductor: str) -> None:
        """Until it is sent away."""
        asked = Enlist(
            plan=self.plan.plan, name=self.name, is_trainer=self.is_trainer, group=self.group
        )
        channel, enlisted = await enlist(self.peer, conductor, asked)
        self.began(to_version(enlisted.version))
        speaking = asyncio.create_task(self._speak(channel))
        try:
            while message := await channel.receive_one_of(
                FROM_CONDUCTOR, seconds=SECONDS, what="orders"
            ):
                self.heard.append(message)
                if isinstance(message, OrderMessage):
                    self.obey(message)
                    await channel.send(of_status(self.status))
                elif isinstance(message, FeedMessage) and self.is_trainer:
                    await channel.send(fed_all(message))
        except PeerError as error:
            self.end = error
        finally:
            speaking.cancel()
            channel.close()

    def began(self, version: Version) -> None:
        """It says that it has the newest weights."""
        self.status = Status(version, version.round, Phase.OPEN)

    def obey(self, order: OrderMessage) -> None:
        """It tells lies of its own kind."""

    async def _speak(self, channel: Channel) -> None:
        while True:
            await channel.send(of_status(self.status))
            await asyncio.sleep(HEARTBEAT_SECONDS)
