"""Leave a package with one peer: offer its manifest, send the files that are wished for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from seshu_swarm.errors import ProtocolError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.packages import Manifest
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import (
    BLOBS,
    CHUNK_BYTES,
    BlobRequest,
    Chunk,
    OfferPackage,
    Stored,
    WantFiles,
)

ANSWER_SECONDS = 20.0


async def offer(swarm: Swarm, peer: str, folder: Path, manifest: Manifest) -> None:
    """Returns when the peer says that it has all of it. Raises PeerError."""
    stream = await swarm.open(peer, BLOBS)
    try:
        await stream.send(BlobRequest(request=OfferPackage(manifest=manifest.to_bytes())))
        want = await stream.receive(WantFiles, seconds=ANSWER_SECONDS, what="its wishes")
        for name in want.names:
            if name not in manifest.files:
                raise ProtocolError(f"{stream} asked for {name!r}, which is not in the package")
            await _send_file(stream, folder / name)
        await stream.receive(Stored, seconds=ANSWER_SECONDS, what="its receipt")
    finally:
        stream.close()


async def _send_file(stream: Channel, path: Path) -> None:
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            await stream.send(Chunk(data=data))
