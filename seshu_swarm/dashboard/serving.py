"""Listening for visitors, and answering them until stopped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn

from seshu_swarm.dashboard import address
from seshu_swarm.dashboard.app import build
from seshu_swarm.dashboard.board import Board
from seshu_swarm.errors import PortTakenError, SeshuError, UsageError
from seshu_swarm.program import log
from seshu_swarm.program.running import Stop

BACKLOG = 128
MAX_CONNECTIONS = 256
# A visitor's page asks every five seconds over one connection.
KEEP_ALIVE_SECONDS = 15
STOP_SECONDS = 1


@contextlib.contextmanager
def listening(web: str) -> Iterator[socket.socket]:
    """A socket that listens there. Raises PortTakenError or UsageError."""
    host, port = address.parse(web)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise _cannot_listen(web, error) from None
        yield listener


async def serve(board: Board, listener: socket.socket, stop: Stop) -> None:
    """Answer until stopped. The event `web` names the address once the first pages are made."""
    server = _Server(
        uvicorn.Config(
            build(board),
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    with contextlib.suppress(SeshuError):
        # The first visitor should not wait for libraries; where nothing is known yet, it may.
        await board.pages()
    url = url_of(listener)
    log.event("web", f"dashboard at {url}", url=url)
    answering = asyncio.create_task(server.serve(sockets=[listener]))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopped, answering}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        server.should_exit = True
        await answering


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _Server(uvicorn.Server):
    """Signals are `running`'s here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _cannot_listen(web: str, error: OSError) -> PortTakenError | UsageError:
    if error.errno == errno.EADDRINUSE:
        return PortTakenError(
            f"{web} is in use",
            rule="one program listens on a port",
            way_out="choose another port with --web; 0: a free one",
        )
    return UsageError(
        f"cannot listen on {web}: {error.strerror or error}",
        rule="--web begins with an address of this machine",
        way_out="use 127.0.0.1, or 0.0.0.0 for everyone who reaches this machine",
    )
