"""The control stream from the client to one part of a session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from seshu_swarm.errors import PeerError, PeerLostError, ProtocolError
from seshu_swarm.exchange.session_messages import FROM_PART, OpenPart, PartOpened, SnapshotChunk
from seshu_swarm.network.dht import Swarm
from seshu_swarm.program import running
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.outbox import Outbox
from seshu_swarm.streams.protocol import CHUNK_BYTES, SESSIONS, Chunk, Message

logger = logging.getLogger(__name__)

OPEN_SECONDS = 10.0
FOREVER_SECONDS = 10_000_000.0
FINISH_SECONDS = 1.0


@dataclass(frozen=True)
class Heard:
    """What a link calls: with every message, with every whole snapshot, and with its end. No state has
    more than `most_state_bytes`."""

    message: Callable[[str, Message], None]
    snapshot: Callable[[str, int, bytes], None]
    end: Callable[[str, PeerError], None]
    most_state_bytes: int


class PartLink:
    """Opened by `open`; sends by `put`; ended by `finish` or `drop`."""

    def __init__(self, address: str, stream: Channel, heard: Heard) -> None:
        self.address = address
        self._stream, self._heard = stream, heard
        self._outbox = Outbox(stream)
        self._snapshot = bytearray()
        self._task = asyncio.create_task(self._run())

    @classmethod
    async def open(
        cls, swarm: Swarm, address: str, asked: OpenPart, state: bytes, heard: Heard
    ) -> PartLink:
        """Raises PeerError: out of reach, or refused by name."""
        peer = address.partition("#")[0]
        stream = await swarm.open(peer, SESSIONS, seconds=OPEN_SECONDS)
        try:
            await stream.send(asked)
            for offset in range(0, len(state), CHUNK_BYTES):
                await stream.send(Chunk(data=state[offset : offset + CHUNK_BYTES]))
            await stream.receive(PartOpened, seconds=OPEN_SECONDS, what="a session")
        except BaseException:
            stream.close()
            raise
        return cls(address, stream, heard)

    @property
    def sent_bytes(self) -> int:
        return self._stream.sent_bytes

    def put(self, message: Message) -> None:
        try:
            self._outbox.put(message)
        except PeerLostError as error:
            self._heard.end(self.address, error)

    async def _run(self) -> None:
        """Until the stream ends; `drop` cancels this, and ends the stream itself."""
        try:
            await running.first_to_end(self._listen(), self._outbox.run())
            error: PeerError = PeerLostError(f"{self._stream} ended the session")
        except PeerError as found:
            error = found
        self._stream.close()
        self._heard.end(self.address, error)

    async def _listen(self) -> None:
        while message := await self._stream.receive_one_of(
            FROM_PART, seconds=FOREVER_SECONDS, what="the session"
        ):
            if isinstance(message, SnapshotChunk):
                self._collect(message)
            else:
                self._heard.message(self.address, message)

    def _collect(self, chunk: SnapshotChunk) -> None:
        """Chunks of one snapshot follow one another; a new one begins at offset 0.

        Raises ProtocolError for more bytes than were announced, or than a state can have.
        """
        if chunk.offset == 0:
            self._snapshot = bytearray()
        if chunk.offset != len(self._snapshot):
            return
        self._snapshot += chunk.data
        if not len(self._snapshot) <= chunk.total <= self._heard.most_state_bytes:
            raise ProtocolError(
                f"a snapshot of {chunk.total} bytes", rule=f"<= {self._heard.most_state_bytes}"
            )
        if len(self._snapshot) == chunk.total:
            self._heard.snapshot(self.address, chunk.position, bytes(self._snapshot))

    async def finish(self) -> None:
        """End the session at this peer; a failure does not matter any more."""
        self._outbox.end()
        try:
            # Whoever closes a stream that still brings answers resets it, and the last frame is lost.
            async with asyncio.timeout(FINISH_SECONDS):
                await self._task
        except TimeoutError:
            logger.debug("%s did not end the session in time", self._stream)
        self._stream.close()

    def drop(self) -> None:
        """Leave it at once, without a word."""
        self._task.cancel()
        self._stream.close()
