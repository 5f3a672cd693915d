"""The sockets of the proxies: what comes in on one side goes out on the other, as `shaping` says.

A peer that is killed ends its connections, which arrives late like everything else; one that is
paused says nothing. libp2p dials from the port it listens on, so that the line up of a dialling peer
is known too; a dialler that does not is given a line of its own for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from seshu_swarm.bench.links.config import LinksConfig
from seshu_swarm.bench.links.shaping import CHUNK_BYTES, Sender, Way
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop

HOST = "127.0.0.1"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def run(settings: LinksConfig) -> int:
    return running.run(lambda stop: serve(settings, stop))


async def serve(settings: LinksConfig, stop: Stop) -> int:
    """One proxy for each port, until stopped. Says `ready` with the ports to dial instead."""
    senders = {port: Sender(settings.up_bits_per_second) for port in settings.ports}
    proxies = [Proxy(number, settings, senders) for number in range(len(settings.ports))]
    ports = [await proxy.listen() for proxy in proxies]
    log.event("ready", f"ready: dial {ports} for {list(settings.ports)}", ports=ports)
    await stop.wait()
    for proxy in proxies:
        proxy.close()
    return 0


class Proxy:
    """Everything that goes to or from one peer: the one on port `number` of the settings.

    `close` ends it; connections that stand go on.
    """

    def __init__(self, number: int, settings: LinksConfig, senders: dict[int, Sender]) -> None:
        self._number, self._port = number, settings.ports[number]
        self._settings, self._senders = settings, senders
        self._num_connections = 0
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        """The port to dial instead."""
        self._server = await asyncio.start_server(self._carry, HOST, 0)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialler = writer.get_extra_info("peername")[1]
        self._num_connections += 1
        which = self._num_connections
        try:
            there = await asyncio.open_connection(HOST, self._port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(
                self._move(reader, there[1], sender=dialler, name=f"{which} in"),
                self._move(there[0], writer, sender=self._port, name=f"{which} out"),
            )
        except OSError:
            pass  # One side is gone: both sockets are closed below.
        finally:
            there[1].close()
            writer.close()

    async def _move(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        sender: int,
        name: str,
    ) -> None:
        """One direction, until its end has arrived on the other side."""
        rng = Random(f"{self._settings.seed} {self._number} {name}")
        line = self._senders.get(sender) or Sender(self._settings.up_bits_per_second)
        way, flying = Way(self._settings, rng), asyncio.Queue[tuple[float, bytes]]()
        landing = asyncio.create_task(_land(flying, writer))
        try:
            while True:
                # Closing at once, as a killed process does, and closing politely look the same here.
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = await reader.read(CHUNK_BYTES)
                left_at = line.send(len(data), _now())
                flying.put_nowait((way.arrival(left_at), data))
                if not data:
                    return await landing
                await asyncio.sleep(left_at - _now())
        finally:
            landing.cancel()


async def _land(flying: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    """Write each chunk when it is due; an empty one is the end. Raises OSError."""
    while True:
        due, data = await flying.get()
        if due > _now():
            await asyncio.sleep(due - _now())
        if not data:
            writer.write_eof()
            return
        writer.write(data)
        await writer.drain()


def _now() -> float:
    return asyncio.get_running_loop().time()
