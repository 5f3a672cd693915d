"""Opening a part: what a client asks for, and the state that it brings along."""

from __future__ import annotations

import time
from collections.abc import Mapping

from seshu_swarm.errors import PackageError
from seshu_swarm.exchange.payloads import BlockState, BlockStates, Hidden
from seshu_swarm.exchange.session_messages import OpenPart
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.hosted import Hosted, HostedParts
from seshu_swarm.peer.served import ServedSpan
from seshu_swarm.sessions.messages import Open
from seshu_swarm.sessions.part import Part
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Chunk, Refusal

OPEN_SECONDS = 30.0


class Admission:
    """Who may open a part here. `served`: what the service serves now, by revision."""

    def __init__(self, guest: Guest, parts: HostedParts, served: Mapping[str, ServedSpan]) -> None:
        self.is_draining = False
        self._guest, self._parts, self._served = guest, parts, served

    async def enter(self, channel: Channel, asked: OpenPart) -> Hosted:
        """A new part, or the client's own one again. Raises RefusalError by name."""
        if reason := self._guest.pause_reason():
            raise refusal(Refusal.PAUSED, reason)
        if hosted := self._parts.again(channel.peer_id, asked):
            return hosted
        served = self._wanted(asked)
        span = Span(asked.start, asked.end)
        state_bytes = served.fresh_state(span).num_bytes
        self._parts.admit(asked, state_bytes, time.monotonic())
        if state := await _read_state(channel, asked, served, span):
            # Others may have come meanwhile, and this peer may be leaving.
            served = self._wanted(asked)
            self._parts.admit(asked, state_bytes, time.monotonic())
        hosted = Hosted(
            part_id=asked.part_id,
            client=channel.peer_id,
            served=served,
            part=Part[Hidden, BlockState](_opening(asked, span, state)),
            wire_type=asked.wire_type,
            is_pushed=asked.takes_pushes,
            used_at=time.monotonic(),
        )
        self._parts.add(hosted)
        return hosted

    def _wanted(self, asked: OpenPart) -> ServedSpan:
        if self.is_draining:
            raise refusal(Refusal.DRAINING, "")
        served = self._served.get(asked.revision)
        if served is None:
            raise refusal(Refusal.REVISION_MISMATCH, f"serving {', '.join(self._served)[:80]}")
        if not served.span.start <= asked.start < asked.end <= served.span.end:
            raise refusal(Refusal.SPAN_MOVED, f"hosting {served.span}")
        return served


def _opening(asked: OpenPart, span: Span, state: RecurrentState | None) -> Open[BlockState]:
    """As the part's machine takes it."""
    return Open(
        epoch=asked.epoch,
        span=span,
        before=asked.before,
        next=asked.next,
        position=asked.position,
        state=None if state is None else BlockStates(state),
        snapshot_tokens=asked.snapshot_tokens,
    )


async def _read_state(
    channel: Channel, asked: OpenPart, served: ServedSpan, span: Span
) -> RecurrentState | None:
    """The state that follows an OpenPart. Raises RefusalError for anything but what it says."""
    if asked.state_bytes == 0:
        return None
    data = bytearray()
    while len(data) < asked.state_bytes:
        chunk = await channel.receive(Chunk, seconds=OPEN_SECONDS, what="a state")
        data += chunk.data
        if not chunk.data or len(data) > asked.state_bytes:
            raise refusal(Refusal.MALFORMED, f"a state of {asked.state_bytes} bytes was announced")
    try:
        state = RecurrentState.from_bytes(
            bytes(data), shape=served.module.shape, span=span, revision=asked.revision
        )
    except PackageError as error:
        raise refusal(Refusal.MALFORMED, str(error)) from None
    if state.positions != (asked.position,):
        raise refusal(Refusal.POSITION_MISMATCH, f"a state after {state.positions} tokens")
    return state
