"""A swarm of real processes on this machine: coordinator, hosts, and the links between them.

Knows the roles by their command lines and events only, as a person at a terminal does. Every peer
keeps its port and its key when it is started again, so it comes back as the same peer.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from seshu_swarm.bench.config import HOME
from seshu_swarm.bench.swarm.model import RandomModel
from seshu_swarm.children import Child, Children
from seshu_swarm.dht import Listen
from seshu_swarm.errors import SeshuError

COORDINATOR, PEER = "seshu_swarm.coordinator", "seshu_swarm.peer"
LINKS = "seshu_swarm.bench.links"
LOOPBACK_HOST = "127.0.0.1"
OPEN_SECONDS = 120.0
START_SECONDS = 60.0


@dataclass
class Host:
    """`peer host` of some blocks. `start` it, and again after a `kill`."""

    name: str
    blocks: str
    children: Children
    arguments: list[str]
    peer_id: str = ""
    _child: Child | None = field(default=None, repr=False)

    async def start(self) -> float:
        """Until it can be used; the seconds since its process began. Raises SeshuError."""
        began = time.perf_counter()
        self._child = await self.children.start(self.name, PEER, self.arguments)
        ready = await self._child.wait_for("ready", seconds=START_SECONDS)
        self.peer_id = ready["peer_id"]
        return time.perf_counter() - began

    @property
    def child(self) -> Child:
        """Raises SeshuError before the first start."""
        if self._child is None:
            raise SeshuError(f"{self.name} was never started")
        return self._child


class Village:
    """`start` opens a run over `model` and starts all; whoever owns `children` ends them."""

    def __init__(
        self,
        folder: Path,
        children: Children,
        model: RandomModel,
        *,
        spans: Sequence[str],
        links: str,
        seed: int,
    ) -> None:
        self._folder, self._children, self._model = folder, children, model
        self._spans, self._links, self._seed = spans, links, seed
        self._listens: list[Listen] = []
        self.hosts: list[Host] = []
        self.link = ""

    async def start(self) -> None:
        """Raises SeshuError naming the process that failed."""
        # The coordinator's, the user's, then one for each host.
        self._listens = await self._make_links(2 + len(self._spans))
        await self._open()
        coordinator = await self._coordinate()
        self.link = (await coordinator.wait_for("ready", seconds=START_SECONDS))["link"]
        self.hosts = [self._host(number, blocks) for number, blocks in enumerate(self._spans)]
        await asyncio.gather(*(host.start() for host in self.hosts))

    @property
    def user_listen(self) -> Listen:
        """Where the client in this process listens, and what it announces."""
        return self._listens[1]

    @property
    def user_folder(self) -> Path:
        return self._folder / "user"

    def host_of(self, peer_id: str) -> Host:
        return next(host for host in self.hosts if host.peer_id == peer_id)

    async def _make_links(self, number: int) -> list[Listen]:
        ports = free_ports(number)
        if self._links != HOME:
            return [Listen(LOOPBACK_HOST, port) for port in ports]
        arguments = ["proxy", "--ports", ",".join(map(str, ports)), "--seed", str(self._seed)]
        proxies = await self._children.start("links", LINKS, arguments)
        announced = (await proxies.wait_for("ready", seconds=START_SECONDS))["ports"]
        return [
            Listen(LOOPBACK_HOST, port, Listen(LOOPBACK_HOST, other).multiaddr)
            for port, other in zip(ports, announced, strict=True)
        ]

    async def _open(self) -> None:
        arguments = ["open", *self._run_folder, "--run-id", "bench", "--languages", "hi"]
        arguments += ["--base", str(self._model.folder)]
        child = await self._children.start("coordinator open", COORDINATOR, arguments)
        await child.wait_for_end(seconds=OPEN_SECONDS)

    @property
    def _run_folder(self) -> tuple[str, str]:
        return "--state-dir", str(self._folder / "run")

    async def _coordinate(self) -> Child:
        arguments = ["run", *self._run_folder, *_where(self._listens[0]), "--max-threads", "1"]
        return await self._children.start("coordinator", COORDINATOR, arguments)

    def _host(self, number: int, blocks: str) -> Host:
        arguments = ["host", "--join", self.link, "--blocks", blocks, "--max-threads", "1"]
        arguments += ["--state-dir", str(self._folder / f"host-{number}")]
        arguments += _where(self._listens[2 + number])
        return Host(f"host {number}", blocks, self._children, arguments)


def _where(listen: Listen) -> list[str]:
    flags = ["--host", listen.host, "--port", str(listen.port)]
    return flags + (["--announce", listen.announce] if listen.announce else [])


def free_ports(number: int) -> list[int]:
    """Ports of loopback that the system says are free now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind((LOOPBACK_HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
