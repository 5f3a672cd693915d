"""The client of a bench, in this process: a joined peer whose streams can be counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from seshu_swarm.bench.swarm.talk import Talk
from seshu_swarm.bench.swarm.village import Village
from seshu_swarm.client.gateway.models import Models
from seshu_swarm.errors import DeadlineError, PeerError
from seshu_swarm.network import identity, link
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.dht import DIAL_SECONDS, Swarm
from seshu_swarm.run.joining import Joined
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import SESSIONS

REACH_SECONDS = 60.0
FOLLOW_SECONDS = 60.0
PAUSE_SECONDS = 0.2


class MeteredSwarm(Swarm):
    """Remembers the streams it opened."""

    opened: Sequence[Channel] = ()

    async def open(self, peer_id: str, name: str, *, seconds: float = DIAL_SECONDS) -> Channel:
        stream = await super().open(peer_id, name, seconds=seconds)
        self.opened = (*self.opened, stream)
        return stream


class User:
    """Made by `enter`; ended by `leave`."""

    def __init__(self, swarm: MeteredSwarm, models: Models) -> None:
        self._swarm, self._models = swarm, models

    @classmethod
    async def enter(cls, village: Village) -> User:
        """Join the village's run. Raises JoinError, ResourceError, PeerError."""
        return await cls.join(village.link, village.user_folder, village.user_listen)

    @classmethod
    async def join(cls, run_link: str, folder: Path, listen: Listen) -> User:
        """Raises JoinError, ResourceError, PeerError."""
        wanted = link.parse(run_link)
        swarm = await MeteredSwarm.join(
            identity.load_or_create(folder),
            run_id=wanted.run_id,
            initial_peers=wanted.peers,
            listen=listen,
        )
        try:
            found = await swarm.run_record(wanted)
            joined = Joined(swarm, wanted, found, folder)
            return cls(swarm, await Models.connect(joined))
        except BaseException:
            await swarm.leave()
            raise

    async def leave(self) -> None:
        await self._swarm.leave()

    def talk(self, *, wire_type: str = "float32", is_star: bool = False) -> Talk:
        """A new session, of the newest revision that this user knows."""
        model = self._models.current
        return Talk(model.session(wire_type=wire_type, is_star=is_star), model)

    async def follow(self, revision: str) -> None:
        """Until new sessions are of this revision; a gateway looks for it in the same way."""
        try:
            async with asyncio.timeout(FOLLOW_SECONDS):
                while self._models.current.revision != revision:
                    await self._models.refresh()
                    await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            raise DeadlineError(
                f"revision {revision[:12]} was not served within {FOLLOW_SECONDS:g} s",
                way_out="look into the logs of the hosts",
            ) from None

    def sent_bytes(self) -> dict[int, int]:
        """Bytes of frames written into each stream so far, by the stream's number."""
        return {number: stream.sent_bytes for number, stream in enumerate(self._swarm.opened)}

    async def reach(self, peer_id: str) -> None:
        """Until the peer answers a dial: after a failed one libp2p waits for a while."""
        try:
            async with asyncio.timeout(REACH_SECONDS):
                while not await self._answers(peer_id):
                    await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            raise DeadlineError(
                f"peer …{peer_id[-6:]} came back but could not be dialled in {REACH_SECONDS:g} s",
                way_out="look into its log",
            ) from None

    async def _answers(self, peer_id: str) -> bool:
        try:
            stream = await Swarm.open(self._swarm, peer_id, SESSIONS)
        except PeerError:
            return False
        stream.close()
        return True
