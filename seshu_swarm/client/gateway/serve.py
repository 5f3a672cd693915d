"""`client serve`: join, connect to the newest revision, listen, and follow the run."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from seshu_swarm.client.config import ServeConfig
from seshu_swarm.client.gateway.answering import Gateway
from seshu_swarm.client.gateway.app import build
from seshu_swarm.client.gateway.connection import Connection
from seshu_swarm.client.gateway.days import StoredDays
from seshu_swarm.client.gateway.keys import KeyRing
from seshu_swarm.client.gateway.limits import Allowances
from seshu_swarm.client.gateway.models import Models
from seshu_swarm.errors import PortTakenError, UsageError
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import join

BACKLOG = 128
# Below the state folder: the tokens that each key used of its day.
USED_FILE = "gateway.sqlite"
STOP_SECONDS = 1


def run(settings: ServeConfig) -> int:
    return running.run(lambda stop: serve(settings, stop))


async def serve(settings: ServeConfig, stop: Stop) -> int:
    keys = KeyRing.read(Path(settings.keys).expanduser()) if settings.keys else KeyRing()
    allowances = Allowances(StoredDays(settings.state_path / USED_FILE))
    with listening(settings.http_host, settings.http_port) as listener:
        joined = await join(settings)
        try:
            models = await Models.connect(joined)
            following = asyncio.create_task(
                running.repeat(stop, settings.follow_seconds, models.refresh)
            )
            try:
                gateway = Gateway(settings, models, keys, stop=stop, allowances=allowances)
                await listen(gateway, listener)
            finally:
                following.cancel()
        finally:
            await joined.swarm.leave()
    return 0


async def listen(gateway: Gateway, listener: socket.socket) -> None:
    """Answer requests until the gateway's stop is set; those under way are then told so."""
    server = Server(
        uvicorn.Config(
            build(gateway),
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    answering = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not answering.done():
            await asyncio.sleep(0.01)
        _say_ready(gateway, listener)
        stopped = asyncio.create_task(gateway.stop.wait())
        await asyncio.wait({stopped, answering}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
    finally:
        server.should_exit = True
        await answering


class Server(uvicorn.Server):
    """Signals are `running`'s here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _say_ready(gateway: Gateway, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
    log.event(
        "ready", f"ready {url} model {gateway.models.name}", url=url, model=gateway.models.name
    )


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens there (port 0: a free one). Raises PortTakenError or UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise _cannot_listen(host, port, error) from None
        yield listener


def _cannot_listen(host: str, port: int, error: OSError) -> PortTakenError | UsageError:
    if error.errno == errno.EADDRINUSE:
        return PortTakenError(
            f"port {port} of {host} is in use",
            rule="one program listens on a port",
            way_out="choose another with --http-port; 0: a free one",
        )
    return UsageError(
        f"cannot listen on {host} port {port}: {error.strerror or error}",
        rule="--http-host is an address of this machine",
        way_out="use 127.0.0.1, or 0.0.0.0 together with --keys",
    )
