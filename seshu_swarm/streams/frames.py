"""Frames on a stream: our own, because a dead peer must not look like a normal end.

A frame is one byte of kind, four bytes of length (big endian) and a msgpack body. The length is
checked against a cap before anything is allocated. A stream ends with an explicit FINAL frame;
an end without it means that the peer was lost. Knows nothing of messages' meaning.
"""

from __future__ import annotations

import asyncio
import struct
from enum import IntEnum
from typing import Any

import msgpack

from seshu_swarm.errors import DeadlineError, PeerLostError, ProtocolError

HEADER = struct.Struct(">BI")
MAX_FRAME_BYTES = 32 << 20
MAX_ITEMS = 65_536
READ_BYTES = 1 << 16


class FrameKind(IntEnum):
    MESSAGE = 1
    REFUSAL = 2
    FINAL = 3


Frame = tuple[FrameKind, Any]
_KINDS = {int(kind): kind for kind in FrameKind}


def encode(kind: FrameKind, body: Any) -> bytes:
    """Raises ProtocolError when the body is larger than a frame may be."""
    data: bytes = msgpack.packb(body)
    if len(data) > MAX_FRAME_BYTES:
        raise ProtocolError(f"frame of {len(data)} bytes", rule=f"at most {MAX_FRAME_BYTES}")
    return HEADER.pack(kind, len(data)) + data


class FrameReader:
    """The frames of one stream, in order. Those that arrived together need one wait."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._arrived = bytearray()
        self.num_bytes = 0

    async def read(self, cap_bytes: int) -> Frame:
        """The next frame. Raises PeerLostError at an early end, ProtocolError at a bad frame."""
        while (frame := self.arrived(cap_bytes)) is None:
            try:
                data = await self._reader.read(READ_BYTES)
            except (ConnectionError, BrokenPipeError):
                data = b""
            if not data:
                raise PeerLostError("the stream ended without its final frame")
            self._arrived += data
            self.num_bytes += len(data)
        return frame

    async def discard(self) -> None:
        """Read to the end of the stream and keep nothing."""
        try:
            while await self._reader.read(READ_BYTES):
                self._arrived.clear()
        except (ConnectionError, BrokenPipeError):
            return

    def arrived(self, cap_bytes: int) -> Frame | None:
        """The next frame if all of it is here. Raises ProtocolError at a bad one."""
        if len(self._arrived) < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(self._arrived)
        if kind not in _KINDS or length > cap_bytes:
            raise ProtocolError(
                f"frame kind {kind} of {length} bytes", rule=f"<= {cap_bytes} bytes"
            )
        end = HEADER.size + length
        if len(self._arrived) < end:
            return None
        data = bytes(memoryview(self._arrived)[HEADER.size : end])
        del self._arrived[:end]
        return _KINDS[kind], _unpack(data)


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except Exception as error:
        raise ProtocolError(f"frame body is not msgpack: {error!r}") from None


async def within(seconds: float, waiting: Any, what: str) -> Any:
    """Await with a named deadline. Raises DeadlineError that says what was waited for."""
    try:
        async with asyncio.timeout(seconds):
            return await waiting
    except TimeoutError:
        raise DeadlineError(
            f"no answer in {seconds:g} s while waiting for {what}",
            way_out="the peer may be gone or overloaded; another one is tried where there is one",
        ) from None
