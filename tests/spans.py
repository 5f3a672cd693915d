"""Hosted spans for tests: real services behind real peers, and ways to speak to them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from seshu_swarm import wire
from seshu_swarm.channel import Channel
from seshu_swarm.client.routing import Offer
from seshu_swarm.dht import Swarm
from seshu_swarm.peer.guest import Guest, Limits
from seshu_swarm.peer.served import ServedSpan
from seshu_swarm.peer.serving import SpanService
from seshu_swarm.protocol import SESSIONS, OpenSession, SessionOpened, Step, StepReply
from seshu_swarm.spans import Span
from tests.loopback import Loopback

if TYPE_CHECKING:
    from tests.conftest import TinyCheckpoint

SESSION_ID = "0123456789abcdef" * 2
SECONDS = 10.0


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
    service = SpanService(guest or make_guest(loopback.folder / name), max_sessions)
    service.load(ServedSpan.load(tiny.folder, tiny.revision, span))
    loopback.run(swarm.serve(SESSIONS, service.serve))
    return Host(swarm, service, span)


async def open_session(
    client: Swarm, host: Host, known: str, *, epoch: int = 0, **other: object
) -> tuple[Channel, int]:
    """A stream in a session, and the position where the session stands. Raises PeerError."""
    stream = await client.open(host.swarm.peer_id, SESSIONS)
    facts: dict[str, object] = {
        "session_id": SESSION_ID,
        "epoch": epoch,
        "revision": known,
        "start": host.span.start,
        "end": host.span.end,
    }
    try:
        await stream.send(OpenSession.model_validate(facts | other))
        opened = await stream.receive(SessionOpened, seconds=SECONDS, what="a session")
    except BaseException:
        stream.close()
        raise
    return stream, opened.position


async def step(stream: Channel, position: int, hidden_BLM: torch.Tensor) -> StepReply:
    """One step; the stream is closed when the peer refuses it."""
    try:
        await stream.send(Step(position=position, hidden=wire.pack_tensor(hidden_BLM)))
        return await stream.receive(StepReply, seconds=SECONDS, what="a step")
    except BaseException:
        stream.close()
        raise
