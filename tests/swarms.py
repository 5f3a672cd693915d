"""Real role processes for tests: started as a person would, heard by their events, ended by id.

Each process is a session of its own, so that a fault meets its p2p daemon too, as the loss of a
machine would; standard error lies in a log beside the test's files.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Self

from tests.forked import FOLDER, NETWORK_NAMESPACE, Forked, can_fork

Event = dict[str, Any]
END_SECONDS = 5.0


class Fault(Enum):
    """KILL: the machine is gone. PAUSE: it sleeps. TERMINATE: its owner stops the role."""

    KILL = signal.SIGKILL
    PAUSE = signal.SIGSTOP
    TERMINATE = signal.SIGTERM


def start(module: str, arguments: Sequence[str], log: Path) -> Forked | subprocess.Popen[bytes]:
    """Forked where that gives what a new process would be."""
    if can_fork():
        return Forked(module, arguments, log)
    assert NETWORK_NAMESPACE not in os.environ, "a new process would live in the wrong one"
    with log.open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=os.environ.get(FOLDER),
            start_new_session=True,
        )


def open_run(base: Path, folder: Path) -> Path:
    """A run folder over a checkpoint, with a catalogue of the phrasebook's Hindi."""
    command = [sys.executable, "-m", "seshu_swarm.coordinator", "open", "--languages", "hi"]
    command += ["--state-dir", str(folder), "--base", str(base), "--hold-out-rows", "160"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class RoleProcess:
    """`python -m MODULE ARGUMENTS --log-format json`; its events in the order of their arrival."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path) -> None:
        self.name, self.log = module.rpartition(".")[2], log
        self.events: list[Event] = []
        self._news = threading.Condition()
        self._is_over = False
        self.process = start(module, [*arguments, "--log-format", "json"], log)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                event = json.loads(line)
                with self._news:
                    self.events.append(event)
                    self._news.notify_all()
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def wait_for(
        self,
        name: str,
        *,
        seconds: float,
        matching: Callable[[Event], bool] = lambda event: True,
        number: int = 1,
    ) -> Event:
        """The so-and-so-manieth event of that name; AssertionError with the end of the log if none
        comes."""

        def found() -> Event | None:
            fits = (e for e in self.events if e["event"] == name and matching(e))
            return next(itertools.islice(fits, number - 1, None), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._is_over, seconds)
            event = found()
        if event is None:
            raise AssertionError(f"{self.name} said no {name!r} in {seconds:g} s:\n{self.tail()}")
        return event

    def ready(self, *, seconds: float = 30.0) -> Event:
        return self.wait_for("ready", seconds=seconds)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def wait(self, *, seconds: float) -> int:
        """The exit code."""
        code = self.process.wait(seconds)
        self._listener.join(END_SECONDS)
        return code


def inject(process: RoleProcess, fault: Fault) -> None:
    """Do `fault` to a process: its owner's stop reaches the role alone, the others its daemon too."""
    with contextlib.suppress(ProcessLookupError):
        if fault is Fault.TERMINATE:
            process.process.terminate()
        else:
            os.killpg(process.process.pid, fault.value)
            if fault is Fault.KILL:
                process.process.wait(END_SECONDS)  # until then it holds its files locked


def wake(process: RoleProcess) -> None:
    """After a PAUSE."""
    os.killpg(process.process.pid, signal.SIGCONT)


class Processes:
    """`with Processes(folder) as swarm`: all role processes of one test, ended when it is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all: list[RoleProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Ask the roles to end, then end whatever is left of each one's session."""
        for process in self._all:
            inject(process, Fault.TERMINATE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.process.pid, signal.SIGCONT)  # a paused one cannot end
        deadline = time.monotonic() + END_SECONDS
        for process in self._all:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.process.wait(max(0.0, deadline - time.monotonic()))
            inject(process, Fault.KILL)
            process.wait(seconds=END_SECONDS)

    def start(self, module: str, *arguments: str) -> RoleProcess:
        """Start a role, for example `start("seshu_swarm.peer", "host", "--join", link)`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{len(self._all):02d}-{module.rpartition('.')[2]}.log"
        process = RoleProcess(module, arguments, log)
        self._all.append(process)
        return process

    def coordinator(self, state_dir: Path, *flags: str) -> RoleProcess:
        """`coordinator run` on an opened run folder, on loopback."""
        where = ("--state-dir", str(state_dir), "--host", "127.0.0.1")
        return self.start("seshu_swarm.coordinator", "run", *where, *flags)

    def host(self, link: str, blocks: str, *flags: str) -> RoleProcess:
        """`peer host` of some blocks, with a state folder of its own."""
        state_dir = self.folder / f"host-{len(self._all):02d}"
        where = ("--join", link, "--state-dir", str(state_dir), "--host", "127.0.0.1")
        return self.start("seshu_swarm.peer", "host", *where, "--blocks", blocks, *flags)
