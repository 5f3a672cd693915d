"""The stream STATES: weights and moments of a group at a version, from whoever has them.

What arrives is as long and has the hash that its giver said; whether its tensors are those of the
group is for `TrainedPart` to see. Knows no ledger and no model.
"""

from __future__ import annotations

import asyncio
import hashlib

import safetensors.torch
from torch import Tensor

from seshu_swarm.errors import DigestError, ProtocolError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.pipeline.protocol.groups import STATES, AskGroupState, GroupState
from seshu_swarm.streams import frames
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.chunks import receive_bytes, send_bytes

ANSWER_SECONDS = 10.0
BYTES_PER_SECOND = 1e6


def patience_seconds(num_bytes: int) -> float:
    """How long a state of this size may take."""
    return ANSWER_SECONDS + num_bytes / BYTES_PER_SECOND


async def give_state(channel: Channel, data: bytes) -> None:
    """A safetensors file, to who asked. Raises DeadlineError for one who does not read, PeerLostError."""
    digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
    await channel.send(GroupState(num_bytes=len(data), sha256=digest))
    seconds = patience_seconds(len(data))
    await frames.within(seconds, send_bytes(channel, data), "a state to be taken")


async def fetch_state(
    swarm: Swarm, peer_id: str, asked: AskGroupState, *, most_bytes: int
) -> dict[str, Tensor]:
    """Its tensors. Raises PeerError: ProtocolError for more than `most_bytes` or what is no safetensors
    file; DigestError."""
    channel = await swarm.open(peer_id, STATES)
    try:
        await channel.send(asked)
        # The giver copies its weights first, after what it computes just now.
        seconds = patience_seconds(most_bytes)
        told = await channel.receive(GroupState, seconds=seconds, what="a state")
        if told.num_bytes > most_bytes:
            raise ProtocolError(f"a state of {told.num_bytes} bytes", rule=f"at most {most_bytes}")
        seconds = patience_seconds(told.num_bytes)
        data = await receive_bytes(channel, told.num_bytes, seconds=seconds, what="a state")
    finally:
        channel.close()
    return await asyncio.to_thread(_tensors, data, told.sha256)


def _tensors(data: bytes, sha256: str) -> dict[str, Tensor]:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DigestError(f"a state with SHA-256 {found}", rule=f"{sha256} was announced")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except Exception as error:  # a stranger's header meets a foreign parser
        raise ProtocolError(f"a state is no safetensors file: {error!r}"[:300]) from None
    return tensors
