"""A swarm of real processes on this machine: coordinator, hosts, and the links between them.

Knows the roles by their command lines and events only, as a person at a terminal does. Every peer
keeps its port and its key when it is started again, so it comes back as the same peer.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from seshu_swarm.bench.config import HOME
from seshu_swarm.bench.swarm.model import RandomModel
from seshu_swarm.errors import SeshuError
from seshu_swarm.network.daemon import Listen
from seshu_swarm.program.children import Child, Children
from seshu_swarm.spans import Span, coverage
from seshu_swarm.streams import frames

COORDINATOR, PEER = "seshu_swarm.coordinator", "seshu_swarm.peer"
LINKS, USERS = "seshu_swarm.bench.links", "seshu_swarm.bench.users"
# Client processes beside the one of the bench itself.
MOST_CLIENTS = 2
LOOPBACK_HOST = "127.0.0.1"
OPEN_SECONDS = 120.0
START_SECONDS = 60.0
# Over links like home the blocks take their time.
SLOW_START_SECONDS = 600.0
LEAVE_SECONDS, MOVE_SECONDS = 30.0, 60.0


@dataclass
class Host:
    """`peer host`. `start` it, and again after a `kill` or a `drain`: then it hosts the blocks that it
    was told to host. `blocks`: those it hosts now, or did last."""

    name: str
    blocks: str
    children: Children
    arguments: list[str]
    ready_seconds: float = START_SECONDS
    peer_id: str = ""
    _child: Child | None = field(default=None, repr=False)

    async def start(self) -> float:
        """Until it can be used; the seconds since its process began. Raises SeshuError."""
        began = time.perf_counter()
        self._child = await self.children.start(self.name, PEER, self.arguments)
        ready = await self._child.wait_for("ready", seconds=self.ready_seconds)
        self.peer_id, self.blocks = ready["peer_id"], ready["blocks"]
        return time.perf_counter() - began

    async def drain(self) -> bool:
        """Ask it to leave; whether it left in order. Raises SeshuError when it stays for too long."""
        self.child.terminate()
        leaving = self.child.process.wait()
        code: int = await frames.within(LEAVE_SECONDS, leaving, f"{self.name} to leave")
        return code == 0

    async def rebalance(self) -> bool:
        """Have it choose other blocks; whether it moved. Raises SeshuError when it says nothing."""
        heard = list(self.child.events)
        self.child.process.send_signal(signal.SIGUSR1)
        answers = [
            asyncio.create_task(
                self.child.wait_for(name, seconds=MOVE_SECONDS, matching=lambda e: e not in heard)
            )
            for name in ("moved", "stayed")
        ]
        try:
            done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            answer = done.pop().result()
        finally:
            for task in answers:
                task.cancel()
            await asyncio.gather(*answers, return_exceptions=True)
        self.blocks = answer.get("blocks", self.blocks)
        return bool(answer["event"] == "moved")

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
        # The coordinator's, the user's, those of other users, then one for each host.
        self._listens = await self._make_links(2 + MOST_CLIENTS + len(self._spans))
        await self._open()
        coordinator = await self._coordinate()
        self.link = (await coordinator.wait_for("ready", seconds=START_SECONDS))["link"]
        listens = self._listens[2 + MOST_CLIENTS :]
        self.hosts = [
            self._host(f"host {number}", blocks, listen)
            for number, (blocks, listen) in enumerate(zip(self._spans, listens, strict=True))
        ]
        await asyncio.gather(*(host.start() for host in self.hosts))

    @property
    def user_listen(self) -> Listen:
        """Where the client in this process listens, and what it announces."""
        return self._listens[1]

    @property
    def user_folder(self) -> Path:
        return self._folder / "user"

    @property
    def run_folder(self) -> Path:
        """The coordinator's."""
        return self._folder / "run"

    def spare_hosts(self, down: Collection[str] = ()) -> list[Host]:
        """Hosts that may go: each of their blocks has another one, those named in `down` left aside."""
        up = [host for host in self.hosts if host.name not in down]
        spans = [Span.parse(host.blocks) for host in up]
        covered = coverage(spans, self._model.shape.num_blocks)
        return [
            host
            for host, span in zip(up, spans, strict=True)
            if all(covered[block] > 1 for block in span)
        ]

    async def start_users(self, client: int, *, sessions: int, tokens: int) -> Child:
        """A client in a process of its own (`bench.users`), one of MOST_CLIENTS; until it is warm."""
        arguments = ["talk", "--join", self.link, *where(self._listens[2 + client])]
        arguments += ["--state-dir", str(self._folder / f"users-{client}")]
        arguments += ["--sessions", str(sessions), "--tokens", str(tokens)]
        arguments += ["--seed", str(client * sessions)]
        child = await self._children.start(f"users {client}", USERS, arguments)
        await child.wait_for("ready", seconds=START_SECONDS)
        return child

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
        arguments = [
            "open",
            "--state-dir",
            str(self.run_folder),
            "--run-id",
            "bench",
            "--languages",
            "hi",
        ]
        arguments += ["--base", str(self._model.folder)]
        child = await self._children.start("coordinator open", COORDINATOR, arguments)
        await child.wait_for_end(seconds=OPEN_SECONDS)

    async def _coordinate(self) -> Child:
        arguments = ["run", "--state-dir", str(self.run_folder), "--max-threads", "1"]
        arguments += [*where(self._listens[0]), *self._run_flags()]
        return await self._children.start("coordinator", COORDINATOR, arguments)

    def _run_flags(self) -> list[str]:
        """More settings of the coordinator."""
        return []

    def _host(self, name: str, blocks: str, listen: Listen) -> Host:
        arguments = ["host", "--join", self.link, "--blocks", blocks, "--max-threads", "1"]
        arguments += ["--state-dir", str(self._folder / name.replace(" ", "-")), *where(listen)]
        seconds = SLOW_START_SECONDS if self._links == HOME else START_SECONDS
        return Host(name, blocks, self._children, arguments, ready_seconds=seconds)


def where(listen: Listen) -> list[str]:
    """Flags of a role."""
    flags = ["--host", listen.host, "--port", str(listen.port)]
    return flags + (["--announce", listen.announce] if listen.announce else [])


def free_ports(number: int) -> list[int]:
    """Ports of loopback that the system says are free now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind((LOOPBACK_HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
