"""Links like home: rates and delays against their definitions, then real sockets and real peers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from seshu_swarm.bench.links.config import LinksConfig
from seshu_swarm.bench.links.proxy import Proxy
from seshu_swarm.bench.links.shaping import BURST_BYTES, Sender, Way
from seshu_swarm.errors import UsageError
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.dht import Swarm
from seshu_swarm.program.config import NetworkConfig
from tests.loopback import Loopback

HOST = "127.0.0.1"
CALM = LinksConfig(jitter_seconds=0.0, stall_share=0.0)
RATE = 1.25e6  # bytes per second of 10 Mbit/s


def test_a_line_sends_a_burst_at_once_and_then_at_its_rate() -> None:
    line = Sender(10e6)
    assert line.send(BURST_BYTES, now=100.0) == 100.0
    sent_at = [line.send(10_000, now=100.0) for _ in range(5)]
    assert sent_at == pytest.approx([100.0 + 10_000 * n / RATE for n in range(1, 6)])


def test_a_line_that_rested_holds_no_more_than_a_burst() -> None:
    line = Sender(10e6)
    line.send(1_000_000, now=0.0)
    assert line.send(BURST_BYTES, now=1_000.0) == 1_000.0
    assert line.send(1_250, now=1_000.0) == pytest.approx(1_000.001)


def test_chunks_arrive_in_order_within_the_jitter() -> None:
    way = Way(LinksConfig(stall_share=0.0), Random(1))
    left = [0.1 * n for n in range(200)]
    delays = [way.arrival(moment) - moment for moment in left]
    assert min(delays) >= 0.020 and max(delays) <= 0.030
    assert sum(delays) / len(delays) == pytest.approx(0.025, abs=0.001)
    close_together = [way.arrival(100.0 + 1e-4 * n) for n in range(200)]
    assert close_together == sorted(close_together)


def test_a_stall_holds_up_everything_behind_it() -> None:
    settings = LinksConfig(jitter_seconds=0.0, stall_share=0.01)
    way = Way(settings, Random(3))
    delays = [way.arrival(float(n)) - n for n in range(20_000)]
    stalled = [delay for delay in delays if delay > 0.1]
    assert stalled == pytest.approx([0.325] * len(stalled))
    assert 140 <= len(stalled) <= 260  # 200 expected, 4 standard deviations of 14
    way = Way(replace(settings, stall_share=1.0), Random(3))
    assert way.arrival(0.0) == pytest.approx(0.325)
    way._settings = CALM
    assert way.arrival(0.01) == pytest.approx(0.325)  # 0.035 without the one before it


def test_the_same_seed_gives_the_same_weather() -> None:
    def arrivals(seed: int) -> list[float]:
        way = Way(LinksConfig(), Random(f"{seed} 0 1 in"))
        return [way.arrival(float(n)) for n in range(50)]

    assert arrivals(0) == arrivals(0) != arrivals(1)


@pytest.mark.parametrize(
    "wrong", [{"jitter_seconds": 0.1}, {"stall_share": 1.5}, {"up_bits_per_second": 0.0}]
)
def test_settings_that_make_no_line_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"--(jitter-seconds|stall-share)"):
        LinksConfig(**wrong)


@contextmanager
def echo() -> Iterator[int]:
    """A server that says back what it hears; its port."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    while data := peer.recv(65_536):
                        peer.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)


async def exchange(settings: LinksConfig, sizes: list[int]) -> list[float]:
    """Seconds until each message of so many bytes is back, through a proxy; then the end comes."""
    senders = {port: Sender(settings.up_bits_per_second) for port in settings.ports}
    proxy = Proxy(0, settings, senders)
    port = await proxy.listen()
    reader, writer = await asyncio.open_connection(HOST, port)
    seconds = []
    for size in sizes:
        began = time.perf_counter()
        writer.write(bytes(size))
        assert await reader.readexactly(size) == bytes(size)
        seconds.append(time.perf_counter() - began)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    proxy.close()
    return seconds


def test_a_message_goes_and_comes_back_in_twice_the_delay() -> None:
    with echo() as port:
        seconds = asyncio.run(exchange(LinksConfig(ports=(port,), stall_share=0.0), [100] * 20))
    assert min(seconds) >= 0.040
    assert sorted(seconds)[10] == pytest.approx(0.050, abs=0.012)


def test_a_bulky_message_takes_its_time_at_the_rate_both_ways() -> None:
    settings = replace(CALM, delay_seconds=0.0, jitter_seconds=0.0, up_bits_per_second=8e6)
    with echo() as port:
        (seconds,) = asyncio.run(exchange(replace(settings, ports=(port,)), [400_000]))
    # 0.4 s each way at 1 MB/s; the ways overlap but for what is under way, and a burst is free.
    assert 0.37 <= seconds <= 1.0


def test_nobody_behind_a_proxy_ends_the_connection() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        settings = replace(CALM, ports=(int(unused.getsockname()[1]),))

        async def dial() -> bytes:
            proxy = Proxy(0, settings, {})
            port = await proxy.listen()
            reader, writer = await asyncio.open_connection(HOST, port)
            data = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            await writer.wait_closed()
            proxy.close()
            return data

        assert asyncio.run(dial()) == b""


@pytest.mark.parametrize("address", ["127.0.0.1:80", "/ip4/1.2.3.4/tcp/0", "/ip4/1.2.3.4/udp/80"])
def test_an_announced_address_must_be_one(address: str) -> None:
    with pytest.raises(UsageError, match="--announce"):
        NetworkConfig(announce=address)


def test_peers_dial_what_is_announced(loopback: Loopback, tmp_path: Path) -> None:
    """All connections of the peer behind the proxy pass through it, also those that it dials."""

    async def meet() -> tuple[list[str], list[str]]:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        proxy = Proxy(0, replace(CALM, ports=(port,)), {})
        outside = await proxy.listen()
        announced = f"/ip4/{HOST}/tcp/{outside}"
        behind = await Swarm.join(
            loopback.identity("behind"),
            run_id=loopback.run_id,
            initial_peers=(),
            listen=Listen(HOST, port, announced),
        )
        assert [a.partition("/p2p/")[0] for a in await behind.addresses()] == [announced]
        guest = await Swarm.join(
            loopback.identity("guest"),
            run_id=loopback.run_id,
            initial_peers=await behind.addresses(),
            listen=Listen(HOST, 0),
        )
        seen = await guest.neighbours()
        await guest.leave()
        await behind.leave()
        proxy.close()
        return [announced], [a.partition("/p2p/")[0] for a in seen]

    announced, seen = loopback.run(meet())
    assert seen == announced
