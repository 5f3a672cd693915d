"""Clients that are slow with the head of a request, over real sockets: each meets a deadline."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest

from seshu_swarm.client.gateway import connection
from tests.client.gateways import Fleet, Site, start_fleet
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID, Loopback

SECONDS = 0.6
DRIP_SECONDS = 0.02
TEXT, JSON = "/v1/completions", "application/json"
BODY = json.dumps({"model": RUN_ID, "prompt": "ab", "max_tokens": 2}).encode()
HEAD = (
    f"POST {TEXT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
).encode()


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    return start_fleet(loopback, tiny)


@pytest.fixture(autouse=True)
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", SECONDS)


class Wire:
    """One raw connection to a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.began = time.monotonic()

    @classmethod
    async def to(cls, site: Site) -> Wire:
        host, port = site.url.removeprefix("http://").split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def drip(self, data: bytes) -> None:
        """A byte at a time, until all are sent or the other side has had enough."""
        for byte in data:
            try:
                self.writer.write(bytes([byte]))
                await self.writer.drain()
            except ConnectionError:
                return
            await asyncio.sleep(DRIP_SECONDS)

    async def answer(self) -> tuple[int, Any]:
        """Status and body of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        if b"chunked" in head:
            body = (await self.reader.readuntil(b"\r\n0\r\n\r\n")).split(b"\r\n")[1]
        else:
            (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
            body = await self.reader.readexactly(int(length))
        return int(head.split()[1]), json.loads(body)

    async def end(self) -> bytes:
        """Whatever else comes until the other side closes."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


async def refused_of(wire: Wire) -> tuple[int, str, bytes, float]:
    """Status and code of what is refused, what else comes, and seconds since the connection."""
    async with asyncio.timeout(10):
        status, body = await wire.answer()
        rest = await wire.end()
    seconds = time.monotonic() - wire.began
    await wire.close()
    return status, body["error"]["code"], rest, seconds


@pytest.mark.parametrize("num_bytes", [0, 1, 10_000])
def test_who_drips_a_head_or_nothing_is_let_go_and_others_are_answered(
    fleet: Fleet, num_bytes: int
) -> None:
    async def ask() -> tuple[tuple[int, str, bytes, float], int]:
        async with fleet.serving() as site:
            wire = await Wire.to(site)
            start = b"GET /health HTTP/1.1\r\nX-Long: "
            dripping = asyncio.create_task(wire.drip((start + b"a" * 10_000)[:num_bytes]))
            refused = asyncio.create_task(refused_of(wire))
            other = await site.web.get("/health")
            was_waiting = not refused.done()
            found = await refused
            dripping.cancel()
            assert was_waiting, "the other answer came after the deadline"
        return found, other.status_code

    (status, code, rest, seconds), other = fleet.loopback.run(ask())
    assert (status, code, rest) == (408, "HEAD_TOO_SLOW", b"")
    assert SECONDS * 0.9 < seconds < SECONDS + 3
    assert other == 200


def test_a_later_request_of_a_connection_meets_it_too(fleet: Fleet) -> None:
    async def ask() -> tuple[int, tuple[int, str, bytes, float]]:
        async with fleet.serving() as site:
            wire = await Wire.to(site)
            wire.writer.write(HEAD + BODY)
            status, _ = await wire.answer()
            wire.began = time.monotonic()
            dripping = asyncio.create_task(wire.drip(HEAD))
            refused = await refused_of(wire)
            dripping.cancel()
        return status, refused

    first, (status, code, _, seconds) = fleet.loopback.run(ask())
    assert (first, status, code) == (200, 408, "HEAD_TOO_SLOW")
    assert SECONDS * 0.9 < seconds < SECONDS + 3


def test_the_deadline_of_a_head_ends_no_body_and_no_second_request(fleet: Fleet) -> None:
    async def ask() -> list[int]:
        found = []
        async with fleet.serving() as site:
            wire = await Wire.to(site)
            for _ in range(2):
                wire.writer.write(HEAD[:30])
                await asyncio.sleep(SECONDS / 3)
                wire.writer.write(HEAD[30:])
                await asyncio.sleep(SECONDS * 1.5)
                wire.writer.write(BODY)
                found.append((await wire.answer())[0])
            await wire.close()
        return found

    assert fleet.loopback.run(ask()) == [200, 200]


def test_a_body_that_was_answered_before_it_came_is_not_waited_for(fleet: Fleet) -> None:
    """Its length is announced, and one byte of it comes after the refusal."""

    async def ask() -> tuple[int, float]:
        async with fleet.serving() as site:
            wire = await Wire.to(site)
            wire.writer.write(
                b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            )
            status, _ = await wire.answer()
            answered = time.monotonic()
            wire.writer.write(b"{")
            async with asyncio.timeout(10):
                await wire.end()
            await wire.close()
        return status, time.monotonic() - answered

    status, seconds = fleet.loopback.run(ask())
    assert status == 404 and seconds < SECONDS + 3


def test_an_answer_may_take_longer_than_a_head(fleet: Fleet) -> None:
    body = json.dumps(
        {"model": RUN_ID, "prompt": "ab", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    )

    async def ask() -> float:
        async with fleet.serving() as site:
            headers = {"Content-Type": JSON}
            request = site.web.build_request("POST", TEXT, content=body, headers=headers)
            answer = await site.web.send(request, stream=True)
            began = last = time.monotonic()
            async for _ in answer.aiter_bytes():
                last = time.monotonic()
                if last - began > 2 * SECONDS:
                    break
            await answer.aclose()
        return last - began

    assert fleet.loopback.run(ask()) > 2 * SECONDS


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00" * 20 + b"\r\n\r\n", b"not http\r\n\r\n"])
def test_what_is_not_http_is_refused_in_the_usual_shape(fleet: Fleet, data: bytes) -> None:
    async def ask() -> tuple[int, str, bytes, float]:
        async with fleet.serving() as site:
            wire = await Wire.to(site)
            wire.writer.write(data)
            return await refused_of(wire)

    status, code, rest, seconds = fleet.loopback.run(ask())
    assert (status, code, rest) == (400, "NOT_HTTP", b"")
    assert seconds < SECONDS + 3
