"""Holders that lie, stop or drip: the file still arrives, from another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from seshu_swarm import packages
from seshu_swarm.network.dht import Swarm
from seshu_swarm.packages import MANIFEST
from seshu_swarm.records.kinds import ProviderRecord
from seshu_swarm.stores.asking import LONG
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import (
    CHUNK_BYTES,
    BlobRequest,
    Chunk,
    FetchFile,
    WantFiles,
)
from tests.loopback import RUN_ID, Loopback
from tests.stores.members import BIG, HANDLERS, Member, hold

Lie = Callable[[Channel, bytes], Awaitable[None]]


async def other_bytes(channel: Channel, truth: bytes) -> None:
    await channel.send(Chunk(data=b"\0" * len(truth)))


async def too_much(channel: Channel, truth: bytes) -> None:
    for _ in range(3):
        await channel.send(Chunk(data=truth))


async def too_little(channel: Channel, truth: bytes) -> None:
    await channel.send(Chunk(data=truth[:-1]))


async def half_of_other_bytes_then_gone(channel: Channel, truth: bytes) -> None:
    await channel.send(Chunk(data=b"\0" * 1_000))
    channel.close()


async def chunks_of_nothing(channel: Channel, truth: bytes) -> None:
    while True:
        await channel.send(Chunk(data=b""))


async def another_message(channel: Channel, truth: bytes) -> None:
    await channel.send(WantFiles(names=["big.bin"]))


@pytest.mark.parametrize(
    "lie",
    [
        other_bytes,
        too_much,
        too_little,
        half_of_other_bytes_then_gone,
        chunks_of_nothing,
        another_message,
    ],
    ids=lambda lie: lie.__name__,
)
@pytest.mark.parametrize("lies_about", ["big.bin", MANIFEST])
def test_a_lying_holder_is_passed_over_and_the_file_still_arrives(
    loopback: Loopback,
    swarms: list[Swarm],
    members: list[Member],
    tmp_path: Path,
    lie: Lie,
    lies_about: str,
) -> None:
    digest = hold(loopback, members[1], f"{lie.__name__} {lies_about}".encode())
    truth = (members[1].root / digest / lies_about).read_bytes()
    asked = []

    async def liar(channel: Channel) -> None:
        request = (await channel.receive(BlobRequest, seconds=5, what="a request")).request
        assert isinstance(request, FetchFile)
        asked.append(request.name)
        source = members[1].root / digest / request.name
        if request.name == lies_about:
            await lie(channel, truth)
        else:
            await channel.send(Chunk(data=source.read_bytes()))

    HANDLERS[members[0].swarm.peer_id] = liar
    # Announced holders are asked before the hint: the liar first, the honest one last.
    into = tmp_path / "into"
    store = SwarmStore(swarms[2], [members[1].swarm.peer_id])
    record = ProviderRecord(run_id=RUN_ID, digest=digest)
    assert loopback.run(members[0].swarm.announce(record))
    loopback.run(store.fetch(Reference.of_swarm(digest), into, ["big.bin"]))
    assert packages.digest_of(into / "big.bin") == packages.digest_of(
        members[1].root / digest / "big.bin"
    )
    assert lies_about in asked
    assert not list(into.rglob("*.partial"))


def test_a_lie_behind_true_bytes_costs_those_and_no_more(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    """Who lied, the one before or the one who went on, cannot be known: the file starts again."""
    digest = hold(loopback, members[1], b"behind true bytes")

    async def liar(channel: Channel) -> None:
        request = (await channel.receive(BlobRequest, seconds=5, what="a request")).request
        assert isinstance(request, FetchFile)
        size = (members[1].root / digest / request.name).stat().st_size - request.offset
        await channel.send(Chunk(data=b"\0" * min(size, CHUNK_BYTES)))

    HANDLERS[members[0].swarm.peer_id] = liar
    assert loopback.run(members[0].swarm.announce(ProviderRecord(run_id=RUN_ID, digest=digest)))
    into = tmp_path / "into"
    into.mkdir()
    (into / "big.bin.partial").write_bytes(BIG[: CHUNK_BYTES * 2])
    store = SwarmStore(swarms[2], [members[1].swarm.peer_id])
    loopback.run(store.fetch(Reference.of_swarm(digest), into, ["big.bin"]))
    assert (into / "big.bin").read_bytes() == BIG + b"behind true bytes"


def test_a_holder_that_drips_is_passed_over_and_what_it_gave_is_kept(
    loopback: Loopback, swarms: list[Swarm], members: list[Member], tmp_path: Path
) -> None:
    digest = hold(loopback, members[1], b"dripped")
    truth = (members[1].root / digest / "big.bin").read_bytes()
    given = []

    async def dripping(channel: Channel) -> None:
        request = (await channel.receive(BlobRequest, seconds=5, what="a request")).request
        assert isinstance(request, FetchFile)
        if request.name == MANIFEST:
            return await channel.send(
                Chunk(data=(members[1].root / digest / MANIFEST).read_bytes())
            )
        for at in range(request.offset, len(truth)):
            await channel.send(Chunk(data=truth[at : at + 1]))
            given.append(at)
            await asyncio.sleep(0.001)

    HANDLERS[members[0].swarm.peer_id] = dripping
    assert loopback.run(members[0].swarm.announce(ProviderRecord(run_id=RUN_ID, digest=digest)))
    # No silence is ever too long, and no chunk is quick enough once the free one is over.
    never_quick_enough = replace(LONG, silent_seconds=0.5, bytes_per_second=1e12)
    hint = members[1].swarm.peer_id
    store = SwarmStore(swarms[2], [hint], short=never_quick_enough)
    loopback.run(store.fetch(Reference.of_swarm(digest), tmp_path / "into", ["big.bin"]))
    assert (tmp_path / "into" / "big.bin").read_bytes() == truth
    # What the hint was asked for is what had not been written, however much that was.
    [rest] = [size for size in members[1].uploads if size > CHUNK_BYTES]
    assert len(truth) - len(given) - 1 <= rest < len(truth)
