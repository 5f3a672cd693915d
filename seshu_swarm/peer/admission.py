"""Opening a part: what a client asks for, and the state that it brings along."""

from __future__ import annotations

from seshu_swarm.channel import Channel, refusal
from seshu_swarm.errors import PackageError
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.payloads import BlockState, BlockStates
from seshu_swarm.peer.served import ServedSpan
from seshu_swarm.protocol import Chunk, Refusal
from seshu_swarm.session_messages import OpenPart
from seshu_swarm.sessions.messages import Open
from seshu_swarm.spans import Span

OPEN_SECONDS = 30.0


def opening(asked: OpenPart, span: Span, state: RecurrentState | None) -> Open[BlockState]:
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


async def read_state(
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
