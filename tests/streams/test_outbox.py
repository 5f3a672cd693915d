"""Messages leave together and in order, urgent ones first; a side that does not read is the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from seshu_swarm.errors import PeerLostError
from seshu_swarm.exchange.session_messages import FROM_PART, Ping, SnapshotChunk, TrimPart
from seshu_swarm.streams import frames, outbox
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.outbox import Outbox

SOON_SECONDS = 5.0


@asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[tuple[Channel, frames.FrameReader]]:
    """A channel over a real socket, and what the other side reads."""
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait((reader, writer))

    server = await asyncio.start_unix_server(accept, folder / "socket")
    reader, writer = await asyncio.open_unix_connection(folder / "socket")
    there, back = await accepted.get()
    try:
        yield Channel(reader, writer, "somebody"), frames.FrameReader(there)
    finally:
        writer.close()
        back.close()
        server.close()


def on_a_socket(
    folder: Path, work: Callable[[Channel, frames.FrameReader], Awaitable[None]]
) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), connected(folder) as (channel, there):
            await work(channel, there)

    asyncio.run(run())


def chunk(number: int, size: int = 10) -> SnapshotChunk:
    return SnapshotChunk(position=number, offset=0, total=size, data=bytes(size))


async def heard(there: frames.FrameReader, count: int) -> list[int]:
    """The positions that the messages carry."""
    found = []
    for _ in range(count):
        _, body = await there.read(frames.MAX_FRAME_BYTES)
        found.append(body["position"])
    return found


def test_what_waits_is_written_at_once_and_in_order(tmp_path: Path) -> None:
    async def work(channel: Channel, there: frames.FrameReader) -> None:
        writes: list[int] = []
        write = channel.write

        async def counted(data: bytes) -> None:
            writes.append(len(data))
            await write(data)

        channel.write = counted  # type: ignore[method-assign]
        sending = Outbox(channel)
        for number in range(100):
            sending.put(TrimPart(position=number))
        running = asyncio.create_task(sending.run())
        assert await heard(there, 100) == list(range(100))
        assert len(writes) == 1 and channel.sent_bytes == writes[0]
        sending.close()
        await running

    on_a_socket(tmp_path, work)


def test_urgent_messages_overtake_bulky_ones(tmp_path: Path) -> None:
    async def work(channel: Channel, there: frames.FrameReader) -> None:
        link, write = asyncio.Semaphore(0), channel.write

        async def slow_write(data: bytes) -> None:
            await link.acquire()
            await write(data)

        channel.write = slow_write  # type: ignore[method-assign]
        sending = Outbox(channel)
        for number in range(40):
            sending.put(chunk(number, 30_000), is_bulk=True)
        running = asyncio.create_task(sending.run())
        await asyncio.sleep(0.01)  # the first write of bulk is under way
        for number in (998, 999):
            sending.put(TrimPart(position=number))
        for _ in range(100):
            link.release()
        found = await heard(there, 42)
        at_once = outbox.BULK_AT_ONCE_BYTES // 30_000 + 1
        assert found == [*range(at_once), 998, 999, *range(at_once, 40)]
        sending.close()
        await running

    on_a_socket(tmp_path, work)


def test_the_final_frame_comes_behind_everything(tmp_path: Path) -> None:
    async def work(channel: Channel, there: frames.FrameReader) -> None:
        sending = Outbox(channel)
        sending.put(chunk(1), is_bulk=True)
        sending.put(TrimPart(position=2))
        sending.end()
        running = asyncio.create_task(sending.run())
        assert await heard(there, 2) == [2, 1]
        kind, body = await there.read(100)
        assert kind is frames.FrameKind.FINAL and body is None
        sending.close()
        await running

    on_a_socket(tmp_path, work)


def test_who_does_not_read_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", 2 << 20)

    async def work(channel: Channel, there: frames.FrameReader) -> None:
        sending = Outbox(channel)
        running = asyncio.create_task(sending.run())
        with pytest.raises(PeerLostError, match="does not read"):
            for number in range(200):
                sending.put(chunk(number, 1 << 16), is_bulk=True)
                await asyncio.sleep(0)
        # `run` hangs in a write that would never end.
        with contextlib.suppress(PeerLostError):
            await asyncio.wait_for(running, SOON_SECONDS)
        assert sending.is_closed
        sending.put(Ping())  # after the end nothing is kept and nothing raised

    on_a_socket(tmp_path, work)


def test_a_stream_that_breaks_ends_it(tmp_path: Path) -> None:
    async def work(channel: Channel, there: frames.FrameReader) -> None:
        sending = Outbox(channel)
        running = asyncio.create_task(sending.run())
        channel.abort()
        sending.put(Ping())
        with pytest.raises(PeerLostError):
            await asyncio.wait_for(running, SOON_SECONDS)
        assert sending.is_closed

    on_a_socket(tmp_path, work)


def test_messages_are_what_a_channel_reads(tmp_path: Path) -> None:
    async def work(channel: Channel, there: frames.FrameReader) -> None:
        sending = Outbox(channel)
        running = asyncio.create_task(sending.run())
        sending.put(chunk(7))
        other = Channel(there._reader, channel._writer, "me")
        read = await other.receive_one_of(FROM_PART, seconds=SOON_SECONDS, what="a chunk")
        assert read == chunk(7)
        sending.close()
        await running

    on_a_socket(tmp_path, work)
