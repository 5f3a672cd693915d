"""Hosted spans for tests: real services behind real peers, and ways to speak to them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from seshu_swarm.client.chain.routing import Offer
from seshu_swarm.exchange.edges import CLIENT_PART
from seshu_swarm.exchange.session_messages import (
    FROM_PART,
    PUSHES,
    AskSnapshot,
    EdgeAt,
    EdgePiece,
    OpenPart,
    PartOpened,
    SnapshotChunk,
)
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.guest import Guest, Limits
from seshu_swarm.peer.served import ServedSpan
from seshu_swarm.peer.serving import SpanService
from seshu_swarm.spans import Span
from seshu_swarm.streams import wire
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import SESSIONS, Chunk, Message
from tests.loopback import Loopback

if TYPE_CHECKING:
    from tests.conftest import TinyCheckpoint

PART_ID = bytes(range(16))
SECONDS = 10.0
Heard = TypeVar("Heard", bound=Message)


class Host:
    """A peer that serves one span of the tiny checkpoint."""

    def __init__(self, swarm: Swarm, service: SpanService, span: Span) -> None:
        self.swarm, self.service, self.span = swarm, service, span

    @property
    def offer(self) -> Offer:
        return Offer(self.swarm.peer_id, self.span, 0.0, 0)


def make_guest(state_dir: Path, limits: Limits | None = None, *, hour: int = 12) -> Guest:
    """A guest at a fixed time of day, never on battery."""
    noon = datetime(2026, 1, 2, hour)
    return Guest(limits or Limits(), state_dir, now=lambda: noon, is_on_battery=lambda: False)


def start_host(
    loopback: Loopback,
    tiny: TinyCheckpoint,
    name: str,
    span: Span,
    *,
    guest: Guest | None = None,
    max_sessions: int = 8,
) -> Host:
    swarm = loopback.join(name)
    service = SpanService(swarm, guest or make_guest(loopback.folder / name), max_sessions)
    service.load(ServedSpan.load(tiny.folder, tiny.revision, span))
    loopback.run(swarm.serve(SESSIONS, service.serve))
    loopback.run(swarm.serve(PUSHES, service.serve_pushes))
    return Host(swarm, service, span)


class ControlStream:
    """What a client says to one part whose outputs it hears, and what it hears."""

    def __init__(self, stream: Channel, part_id: bytes, epoch: int, position: int) -> None:
        self.stream, self.part_id, self.epoch = stream, part_id, epoch
        self.position = position

    async def greet(self, position: int | None = None) -> None:
        """Say where the client is as the receiver of the part's outputs."""
        await self.say(EdgeAt, position=self.position if position is None else position)

    async def send(
        self, position: int, hidden_BLM: torch.Tensor, *, epoch: int | None = None
    ) -> None:
        packed = wire.pack_tensor(hidden_BLM)
        await self.say(EdgePiece, epoch=epoch, position=position, hidden=packed, seconds=0.0)

    async def say(self, kind: type[Message], *, epoch: int | None = None, **fields: object) -> None:
        """A message of an edge."""
        known = {"to": self.part_id, "sender": CLIENT_PART}
        known["epoch"] = self.epoch if epoch is None else epoch  # type: ignore[assignment]
        await self.stream.send(kind.model_validate(known | fields))

    async def hear(self, kind: type[Heard]) -> Heard:
        """The next message of this kind, without those before it. The stream is closed when the peer
        refuses."""
        try:
            while message := await self.stream.receive_one_of(
                FROM_PART, seconds=SECONDS, what=kind.__name__
            ):
                if isinstance(message, kind):
                    return message
        except BaseException:
            self.stream.close()
            raise
        raise AssertionError("the part ended the session")

    async def output(self) -> torch.Tensor:
        return wire.unpack_tensor((await self.hear(EdgePiece)).hidden, (1, None, 32))

    async def step(
        self, position: int, hidden_BLM: torch.Tensor, *, num_new: int | None = None
    ) -> torch.Tensor:
        """One piece in; the outputs of its tokens, of which some may be known already."""
        await self.send(position, hidden_BLM)
        wanted = hidden_BLM.shape[1] if num_new is None else num_new
        found = [await self.output()]
        while sum(output.shape[1] for output in found) < wanted:
            found.append(await self.output())
        return torch.cat(found, dim=1)

    async def state(self) -> tuple[int, bytes]:
        """Where the part is now, and its state there."""
        await self.stream.send(AskSnapshot())
        data = b""
        while True:
            chunk = await self.hear(SnapshotChunk)
            assert chunk.offset == len(data)
            data += chunk.data
            if len(data) == chunk.total:
                return chunk.position, data

    async def end(self) -> None:
        """As agreed; returns when the peer has forgotten the part."""
        await self.stream.finish()
        while await self.stream.receive_one_of(FROM_PART, seconds=SECONDS, what="the end"):
            continue
        self.stream.close()


async def open_part(
    client: Swarm, host: Host, known: str, *, state: bytes = b"", **other: object
) -> ControlStream:
    """A part between the client and the client, which has said where it is. Raises PeerError."""
    stream = await client.open(host.swarm.peer_id, SESSIONS)
    facts: dict[str, object] = {
        "part_id": PART_ID,
        "epoch": 0,
        "revision": known,
        "start": host.span.start,
        "end": host.span.end,
        "before": "",
        "next": "",
        "position": 0,
        "state_bytes": len(state),
        "snapshot_tokens": 64,
        "wire_type": "float32",
    }
    asked = OpenPart.model_validate(facts | other)
    try:
        await stream.send(asked)
        if state:
            await stream.send(Chunk(data=state))
        opened = await stream.receive(PartOpened, seconds=SECONDS, what="a session")
    except BaseException:
        stream.close()
        raise
    control = ControlStream(stream, asked.part_id, asked.epoch, opened.position)
    await control.greet()
    return control
