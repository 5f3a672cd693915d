"""The bytes of one file from one peer, as a stream of chunks that is neither too long nor too slow.

Believes neither the peer's length nor its pace; whether the bytes are the right ones is for the
caller to see.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from seshu_swarm.errors import DeadlineError, ProtocolError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.stores.asking import Patience
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import BLOBS, BlobRequest, Chunk, FetchFile


@dataclass(frozen=True)
class Wanted:
    """Bytes of a package's file from `offset` on, at most `most` of them."""

    digest: str
    name: str
    offset: int
    most: int

    def __str__(self) -> str:
        return f"{self.name} of {self.digest[:12]}"


async def open_file(swarm: Swarm, peer: str, wanted: Wanted, *, dial_seconds: float) -> Channel:
    """A stream on which the peer was asked for the file. Raises PeerError."""
    stream = await swarm.open(peer, BLOBS, seconds=dial_seconds)
    fetch = FetchFile(digest=wanted.digest, name=wanted.name, offset=wanted.offset)
    await stream.send(BlobRequest(request=fetch))
    return stream


async def chunks(
    swarm: Swarm, peer: str, wanted: Wanted, patience: Patience
) -> AsyncGenerator[bytes, None]:
    """Chunks until the peer ends the file. Raises PeerError: DeadlineError for one too slow."""
    received, silent_seconds = 0, patience.silent_seconds
    stream = await open_file(swarm, peer, wanted, dial_seconds=patience.dial_seconds)
    began = time.monotonic()
    try:
        while chunk := await stream.receive_or_end(Chunk, seconds=silent_seconds, what=str(wanted)):
            received += len(chunk.data)
            if received > wanted.most or not chunk.data:
                raise ProtocolError(
                    f"{wanted} is longer than {wanted.offset + wanted.most} bytes, or stands still"
                )
            seconds = time.monotonic() - began
            # The first silence is free; after it the rate holds at every chunk, not at the end.
            if received < patience.bytes_per_second * (seconds - silent_seconds):
                raise DeadlineError(
                    f"…{peer[-6:]} gave {received} bytes of {wanted} in {seconds:.1f} s",
                    rule=f"at least {patience.bytes_per_second:g} bytes per second",
                )
            yield chunk.data
    finally:
        stream.close()
