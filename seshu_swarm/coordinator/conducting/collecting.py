"""Fetching the state of each group from one of its members, and giving stored states out (STATES).

A member copies its state when it answers: once all headers have come, the next step may begin, and the
bytes follow while training goes on. Knows no tensors.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.errors import DigestError, PeerError, PeerLostError, ProtocolError, from_os_error
from seshu_swarm.exchange.group_states import give_state
from seshu_swarm.network.dht import Swarm
from seshu_swarm.pipeline.messages import Version
from seshu_swarm.pipeline.protocol.fields import of_version, peer_of, to_version
from seshu_swarm.pipeline.protocol.groups import STATES, AskGroupState, GroupState
from seshu_swarm.streams import frames
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Chunk, Refusal

logger = logging.getLogger(__name__)

HEADER_SECONDS = 10.0
COPIED_BYTES_PER_SECOND = 1e8
CHUNK_SECONDS = 30.0
# Slower than any line that training goes through: who drips bytes would hold up all checkpoints.
MIN_BYTES_PER_SECOND = 5e4
MAX_TRIES = 3


@dataclass(frozen=True)
class Arriving:
    """A member's state on its way."""

    group: int
    member: str
    channel: Channel
    header: GroupState


@dataclass(frozen=True)
class Wanted:
    """A group's state at its version, from one of `members`, who have it."""

    group: int
    version: Version
    members: Sequence[str]
    max_bytes: int


async def ask_all(
    swarm: Swarm,
    plan: str,
    wanted: Sequence[Wanted],
    *,
    gave_none: Callable[[str, PeerError], None] = lambda name, error: None,
) -> list[Arriving]:
    """All headers, or nothing. Raises PeerError."""
    asking = [_ask_one_of(swarm, plan, each, gave_none) for each in wanted]
    found = await asyncio.gather(*asking, return_exceptions=True)
    arriving = [each for each in found if isinstance(each, Arriving)]
    if len(arriving) == len(wanted):
        return arriving
    for each in arriving:
        each.channel.close()
    raise next(each for each in found if isinstance(each, BaseException))


async def fetch(arriving: Arriving, path: Path) -> None:
    """The bytes into a file. Raises PeerError, DigestError, DiskFullError."""
    seconds = CHUNK_SECONDS + arriving.header.num_bytes / MIN_BYTES_PER_SECOND
    what = f"the state of group {arriving.group} from {arriving.member}"
    await frames.within(seconds, _fetch(arriving, path), what)


async def _fetch(arriving: Arriving, path: Path) -> None:
    left, digest = arriving.header.num_bytes, hashlib.sha256()
    try:
        with path.open("wb") as file:
            while left > 0:
                chunk = await arriving.channel.receive(
                    Chunk, seconds=CHUNK_SECONDS, what=f"the state of group {arriving.group}"
                )
                if not 0 < len(chunk.data) <= left:
                    raise ProtocolError(f"{len(chunk.data)} bytes of a state", rule=f"{left} left")
                left -= len(chunk.data)
                digest.update(chunk.data)
                file.write(chunk.data)
    except OSError as error:
        raise from_os_error(error, str(path)) from error
    finally:
        arriving.channel.close()
    if digest.hexdigest() != arriving.header.sha256:
        raise DigestError(f"the state of group {arriving.group} from {arriving.member} was changed")


class GivesStates:
    """Handler of STATES at the coordinator: stored states, each under the version it was given."""

    def __init__(self, plan: str) -> None:
        self._plan = plan
        self._files: dict[tuple[int, Version], Path] = {}

    def offer(self, group: int, version: Version, path: Path) -> None:
        """From now on; only the newest of a group is asked for."""
        self._files = {place: p for place, p in self._files.items() if place[0] != group}
        self._files[group, version] = path

    async def serve(self, channel: Channel) -> None:
        asked = await channel.receive(AskGroupState, seconds=HEADER_SECONDS, what="a wish")
        path = self._files.get((asked.group, to_version(asked.version)))
        if asked.plan != self._plan or path is None:
            raise refusal(Refusal.NOT_FOUND, f"no state of group {asked.group} is kept here")
        await give_state(channel, await asyncio.to_thread(path.read_bytes))


async def _ask_one_of(
    swarm: Swarm, plan: str, wanted: Wanted, gave_none: Callable[[str, PeerError], None]
) -> Arriving:
    """Raises PeerError of the last one that was asked."""
    problem: PeerError = PeerLostError(f"nobody has the weights of group {wanted.group}")
    for member in wanted.members[:MAX_TRIES]:
        try:
            return await _ask(swarm, plan, wanted, member)
        except PeerError as error:
            logger.warning("%s gives no state: %s", member, error)
            gave_none(member, error)
            problem = error
    raise problem


async def _ask(swarm: Swarm, plan: str, wanted: Wanted, member: str) -> Arriving:
    channel = await swarm.open(peer_of(member), STATES, seconds=HEADER_SECONDS)
    try:
        version = of_version(wanted.version)
        await channel.send(AskGroupState(plan=plan, group=wanted.group, version=version))
        seconds = HEADER_SECONDS + wanted.max_bytes / COPIED_BYTES_PER_SECOND
        header = await channel.receive(GroupState, seconds=seconds, what="its state")
        if header.num_bytes > wanted.max_bytes:
            raise ProtocolError(
                f"a state of {header.num_bytes} bytes", rule=f"at most {wanted.max_bytes}"
            )
    except BaseException:
        channel.close()
        raise
    return Arriving(wanted.group, member, channel, header)
