"""Frames: bounded before they are read; an end without FINAL is a loss."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import DeadlineError, PeerLostError, ProtocolError
from seshu_swarm.streams import frames
from seshu_swarm.streams.frames import FrameKind

CAP = 1 << 16


def read(data: bytes, *, is_over: bool = True, cap_bytes: int = CAP) -> tuple[FrameKind, Any]:
    async def reading() -> tuple[FrameKind, Any]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        if is_over:
            reader.feed_eof()
        return await frames.FrameReader(reader).read(cap_bytes)

    return asyncio.run(reading())


BODIES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(kind=st.sampled_from(FrameKind), body=BODIES)
def test_round_trip(kind: FrameKind, body: Any) -> None:
    assert read(frames.encode(kind, body)) == (kind, body)


@given(
    sent=st.lists(st.tuples(st.sampled_from(FrameKind), BODIES), max_size=6),
    sizes=st.lists(st.integers(1, 40), min_size=1),
)
def test_frames_come_out_as_they_went_in_however_they_arrive(
    sent: list[tuple[FrameKind, Any]], sizes: list[int]
) -> None:
    data = b"".join(frames.encode(kind, body) for kind, body in sent)

    async def arrive(stream: asyncio.StreamReader) -> None:
        start = 0
        for size in itertools.cycle(sizes):
            stream.feed_data(data[start : start + size])
            start += size
            await asyncio.sleep(0)
            if start >= len(data):
                return

    async def reading() -> list[tuple[FrameKind, Any]]:
        stream = asyncio.StreamReader()
        reader = frames.FrameReader(stream)
        arriving = asyncio.create_task(arrive(stream))
        found = [await reader.read(CAP) for _ in sent]
        await arriving
        assert reader.arrived(CAP) is None
        return found

    assert asyncio.run(reading()) == sent


@given(kind=st.sampled_from(FrameKind), body=BODIES, cut=st.integers(0, 1_000))
def test_a_frame_cut_anywhere_means_that_the_peer_was_lost(
    kind: FrameKind, body: Any, cut: int
) -> None:
    data = frames.encode(kind, body)
    with pytest.raises(PeerLostError, match="without its final frame"):
        read(data[: cut % len(data)])


@given(st.binary(max_size=100))
def test_any_bytes_are_a_frame_or_a_named_error(data: bytes) -> None:
    try:
        kind, _ = read(data)
    except (PeerLostError, ProtocolError):
        return
    assert data[0] == kind


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"frame kind {kind}"):
        read(frames.HEADER.pack(kind, 1) + b"\xc0")


def test_a_length_over_the_cap_is_refused_before_anything_is_allocated() -> None:
    claimed = frames.HEADER.pack(FrameKind.MESSAGE, 0xFFFF_FFFF)
    tracemalloc.start()
    try:
        # The stream stays open: waiting for the claimed bytes would never end.
        with pytest.raises(ProtocolError, match=r"4294967295 bytes.*<= 65536 bytes"):
            read(claimed, is_over=False)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_the_cap_itself_is_allowed() -> None:
    body = b"x" * (CAP - 3)  # three bytes of msgpack header
    data = frames.encode(FrameKind.MESSAGE, body)
    assert read(data) == (FrameKind.MESSAGE, body)
    with pytest.raises(ProtocolError):
        read(data, cap_bytes=CAP - 1)


def test_nothing_larger_is_sent() -> None:
    with pytest.raises(ProtocolError, match="at most 33554432"):
        frames.encode(FrameKind.MESSAGE, b"x" * frames.MAX_FRAME_BYTES)


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd\xff\xff\xff\xff",  # an array that claims 4 billion items
        b"\xdf\xff\xff\xff\xff",  # a map of the same size
        b"\xdc\xff\xff" + b"\xc0" * 10,
        b"\xc1",
        b"",
        b"\x81\x01\x02",  # a key that is no text
        b"\xd4\x01\x00",  # an extension type
        b"\xa1\xff",  # text that is not UTF-8
        b"\xc0\xc0",  # two values
        b"\x91" * 2_000 + b"\xc0",
        msgpack.packb([0] * (frames.MAX_ITEMS + 1)),
    ],
)
def test_a_body_that_lies_about_itself_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="not msgpack"):
        read(frames.HEADER.pack(FrameKind.MESSAGE, len(body)) + body, cap_bytes=1 << 20)


def test_a_deadline_names_what_was_waited_for() -> None:
    async def wait() -> None:
        await frames.within(0.01, asyncio.sleep(5), "the blocks 0:2 of peer …abc")

    with pytest.raises(DeadlineError, match=r"no answer in 0.01 s.*the blocks 0:2 of peer …abc"):
        asyncio.run(wait())
