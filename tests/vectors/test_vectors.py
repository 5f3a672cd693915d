"""The wire as the vectors pin it: a change that these tests see needs a new wire version."""

from __future__ import annotations

import asyncio
import json

import pytest

from seshu_swarm.exchange.session_messages import BETWEEN_PARTS, FROM_CLIENT, FROM_PART
from seshu_swarm.streams import frames
from seshu_swarm.streams.frames import FrameKind
from seshu_swarm.streams.protocol import Message, parse
from tests.vectors import make

KNOWN = json.loads(make.PATH.read_text(encoding="utf-8"))


async def read_hex(frame: str) -> tuple[FrameKind, object]:
    reader = asyncio.StreamReader()
    reader.feed_data(bytes.fromhex(frame))
    reader.feed_eof()
    return await frames.FrameReader(reader).read(frames.MAX_FRAME_BYTES)


def test_every_message_is_written_as_it_was() -> None:
    assert make.vectors() == KNOWN


@pytest.mark.parametrize("message", make.messages(), ids=lambda m: type(m).__name__)
def test_every_frame_is_read_as_it_was_meant(message: Message) -> None:
    known = next(v for v in KNOWN if v["message"] == repr(message))
    kind, body = asyncio.run(read_hex(known["frame"]))
    assert kind is FrameKind.MESSAGE
    assert parse(type(message), body) == message


def test_every_message_of_the_session_streams_has_a_vector() -> None:
    kinds = {*FROM_CLIENT.values(), *FROM_PART.values(), *BETWEEN_PARTS.values()}
    assert {kind.__name__ for kind in kinds} <= {vector["name"] for vector in KNOWN}
