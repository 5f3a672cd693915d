"""A conversation with one peer over one stream: messages, refusals, an explicit end.

`Channel` is the same on both sides. `serve` wraps a handler so that whatever it raises reaches
the other side as a named refusal, and never as silence. Knows frames and messages; knows neither
sessions nor packages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from seshu_swarm.errors import (
    PeerError,
    PeerLostError,
    ProtocolError,
    RefusalError,
    SeshuError,
    WireVersionError,
    shown,
)
from seshu_swarm.streams import frames
from seshu_swarm.streams.frames import Frame, FrameKind, FrameReader
from seshu_swarm.streams.protocol import Hello, Kind, Message, Refusal, parse

logger = logging.getLogger(__name__)

HELLO_SECONDS = 10.0
IDLE_SECONDS = 600.0
LINGER_SECONDS = 5.0


class Channel:
    """One stream to `peer_id`, whose identity libp2p has authenticated."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer_id: str
    ) -> None:
        self.peer_id = peer_id
        self.sent_bytes = 0
        self._frames, self._writer = FrameReader(reader), writer

    @property
    def received_bytes(self) -> int:
        return self._frames.num_bytes

    async def send(self, message: Message) -> None:
        await self._write(FrameKind.MESSAGE, message.model_dump())

    async def receive(self, kind: type[Kind], *, seconds: float, what: str) -> Kind:
        """The next message. Raises RefusalError, PeerLostError, DeadlineError, ProtocolError."""
        message = await self.receive_or_end(kind, seconds=seconds, what=what)
        if message is None:
            raise PeerLostError(f"{self} ended the stream while we waited for {what}")
        return message

    async def receive_or_end(self, kind: type[Kind], *, seconds: float, what: str) -> Kind | None:
        """Like `receive`, but None when the other side ended the stream as agreed."""
        frame, body = await self._next(seconds, what)
        if frame is FrameKind.REFUSAL:
            raise _refused(self, body)
        return parse(kind, body) if frame is FrameKind.MESSAGE else None

    async def receive_one_of(
        self, kinds: Mapping[str, type[Message]], *, seconds: float, what: str
    ) -> Message | None:
        """The next message, of the kind that its `type` names; None at the agreed end."""
        frame, body = await self._next(seconds, what)
        if frame is FrameKind.REFUSAL:
            raise _refused(self, body)
        if frame is FrameKind.FINAL:
            return None
        name = body.get("type") if isinstance(body, dict) else None
        if not isinstance(name, str) or name not in kinds:
            raise ProtocolError(f"message of type {shown(name)}", rule=f"one of {', '.join(kinds)}")
        return parse(kinds[name], body)

    async def _next(self, seconds: float, what: str) -> Frame:
        frame = self._frames.arrived(frames.MAX_FRAME_BYTES)
        if frame is None:
            waiting = self._frames.read(frames.MAX_FRAME_BYTES)
            frame = await frames.within(seconds, waiting, f"{what} from {self}")
        return frame

    async def refuse(self, refusal: Refusal, detail: str) -> None:
        await self._write(FrameKind.REFUSAL, {"name": refusal.name, "detail": detail[:300]})

    async def finish(self) -> None:
        await self._write(FrameKind.FINAL, None)

    async def linger(self, seconds: float) -> None:
        """Until the other side has closed, too, or time is up; what it still says is thrown away.

        The p2p daemon resets a stream once one end is closed: of answers of a megabyte it cut off the
        tail of one in a thousand, and refusals were lost to those who were still sending.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._frames.discard()
        except TimeoutError:
            logger.debug("%s left a stream open", self)

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        """Close without sending what waits, as for a side that does not read."""
        self._writer.transport.abort()

    async def _write(self, kind: FrameKind, body: Any) -> None:
        await self.write(frames.encode(kind, body))

    async def write(self, data: bytes) -> None:
        """Whole frames. Raises PeerLostError."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (ConnectionError, RuntimeError) as error:
            raise PeerLostError(
                f"{self} closed the stream ({error or type(error).__name__})"
            ) from None
        self.sent_bytes += len(data)

    def __str__(self) -> str:
        return f"peer …{self.peer_id[-6:]}"


def _refused(channel: Channel, body: Any) -> RefusalError:
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str) or name not in Refusal.__members__:
        raise ProtocolError(f"{channel} refused without a known name: {shown(name)}")
    detail = body.get("detail", "")
    detail = detail[:300] if isinstance(detail, str) else shown(detail)
    way_out = ""
    if name == Refusal.WIRE_VERSION_MISMATCH.name:
        way_out = "upgrade the older side: pip install --upgrade seshu-swarm"
    return RefusalError(
        name, f"{channel} says: {Refusal[name].value}", rule=detail, way_out=way_out
    )


Handler = Callable[[Channel], Awaitable[None]]
StreamHandler = Callable[[Any, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def serve(run_id: str, handler: Handler) -> StreamHandler:
    """Wrap `handler` as hivemind wants it: greet, answer, refuse by name, end explicitly."""

    async def answer(info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer, str(info.peer_id))
        try:
            await _answer(channel, run_id, handler)
            await channel.linger(LINGER_SECONDS)
        except (PeerError, asyncio.CancelledError) as error:
            logger.debug("stream of %s ended: %r", channel, error)
        finally:
            channel.close()

    return answer


async def _answer(channel: Channel, run_id: str, handler: Handler) -> None:
    try:
        hello = await channel.receive(Hello, seconds=HELLO_SECONDS, what="a greeting")
        if hello.run_id != run_id:
            await channel.refuse(Refusal.RUN_UNKNOWN, f"this is {run_id}")
            return
        await handler(channel)
        await channel.finish()
    except WireVersionError as error:
        await channel.refuse(Refusal.WIRE_VERSION_MISMATCH, str(error))
    except ProtocolError as error:
        await channel.refuse(Refusal.MALFORMED, str(error))
    except RefusalError as error:
        await channel.refuse(Refusal[error.name], error.rule or error.what)
    except PeerError:
        raise
    except SeshuError as error:
        logger.warning("while serving %s: %s", channel, error)
        await channel.refuse(Refusal.INTERNAL, "")
    except Exception:
        logger.exception("while serving %s", channel)
        await channel.refuse(Refusal.INTERNAL, "")


def refusal(which: Refusal, detail: str) -> RefusalError:
    """The exception by which a handler says no."""
    return RefusalError(which.name, which.value, rule=detail)
