"""Bytes of a length that both sides know, as Chunks on a stream. Knows nothing of what they mean."""

from __future__ import annotations

import time

from seshu_swarm.errors import ProtocolError
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import CHUNK_BYTES, Chunk


async def send_bytes(channel: Channel, data: bytes | memoryview) -> None:
    """All of `data`; nothing for no bytes. Raises PeerLostError."""
    for start in range(0, len(data), CHUNK_BYTES):
        await channel.send(Chunk(data=bytes(data[start : start + CHUNK_BYTES])))


async def receive_bytes(channel: Channel, num_bytes: int, *, seconds: float, what: str) -> bytes:
    """Exactly `num_bytes` within `seconds`; memory is taken as they come.

    Raises DeadlineError, PeerLostError, RefusalError, ProtocolError.
    """
    data, ends_at = bytearray(), time.monotonic() + seconds
    while len(data) < num_bytes:
        left_seconds = max(0.0, ends_at - time.monotonic())
        chunk = await channel.receive(Chunk, seconds=left_seconds, what=what)
        data += chunk.data
        if not chunk.data or len(data) > num_bytes:
            raise ProtocolError(f"{what}: a chunk of {len(chunk.data)} bytes", rule=f"{num_bytes}")
    return bytes(data)
