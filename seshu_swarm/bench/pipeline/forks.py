"""Children of which peers are forked from a process that has imported them (`forking`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from seshu_swarm.bench.swarm.village import PEER
from seshu_swarm.program.children import Child, Children, OnEvent

PIPELINE = "seshu_swarm.bench.pipeline"
# Named only: what a peer imports when its command is chosen.
IMPORTS = "seshu_swarm.peer.training.holding"
READY_SECONDS = 60.0


class Forked:
    """A process that somebody else started; its exit code is not known, so 0 stands for any."""

    def __init__(
        self, pid: int, stdout: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid, self.stdout = pid, stdout
        self._writer = writer  # let go of, it would close the connection
        self.returncode: int | None = None
        self._is_over = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            self._handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self._end()
        else:
            loop.add_reader(self._handle, self._ended)

    async def wait(self) -> int:
        await self._is_over.wait()
        return 0

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self._end()

    def _end(self) -> None:
        self.returncode = 0
        self._is_over.set()


class Forks(Children):
    """`open` before the first peer is started."""

    def __init__(self, logs: Path, on_event: OnEvent) -> None:
        super().__init__(logs, on_event)
        self._socket = logs / "forking"

    async def open(self) -> None:
        """Raises SeshuError."""
        self._logs.mkdir(parents=True, exist_ok=True)
        arguments = ["forking", "--socket", str(self._socket), "--imports", IMPORTS]
        forking = await super().start("forking", PIPELINE, arguments)
        await forking.wait_for("ready", seconds=READY_SECONDS)

    async def start(self, name: str, module: str, arguments: Sequence[str]) -> Child:
        if module != PEER:
            return await super().start(name, module, arguments)
        path = self._logs / f"{name}.log"
        reader, writer = await asyncio.open_unix_connection(self._socket)
        given = [*arguments, "--log-format", "json", "--end-with-parent"]
        asked = {"arguments": given, "log": str(path)}
        writer.write(json.dumps(asked).encode() + b"\n")
        forked = json.loads(await reader.readline())
        return self._hear(Child(name, Forked(forked["pid"], reader, writer), path))
