"""Processes of roles, forked from one that has imported them: importing takes seconds of a core.

What runs in one is the role as `python -m` runs it: its own session, its own environment, standard output
in a pipe, standard error in a file. The process that forks computes nothing and ends with this one.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from tests.nat_router import enter

# The roles' commands, and what these import only when they need it.
IMPORTS = [
    "seshu_swarm.client.gateway.serve",
    "seshu_swarm.client.terminal.generate",
    "seshu_swarm.coordinator.lifecycle",
    "seshu_swarm.peer.auto",
    "seshu_swarm.peer.donating.donor",
    "seshu_swarm.peer.training.holding",
    "seshu_swarm.peer.training.train",
    "transformers",
    "peft",
]
# Read when huggingface_hub is imported: a test that sets them starts processes of its own.
READ_AT_IMPORT = ("HF_", "HUGGING")
# lm-evaluation-harness sets it when it is imported, for downloads that no test makes.
OF_NO_MATTER = "HF_XET_HIGH_PERFORMANCE"
# A process forked while this is set lives in that network namespace (`tests.namespaces`).
NETWORK_NAMESPACE = "SESHU_TESTS_NETWORK_NAMESPACE"
# A process forked while this is set works in that folder: the one that forks stays where it began.
FOLDER = "SESHU_TESTS_FOLDER"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTS)


def early_environment() -> dict[str, str]:
    found = {k: v for k, v in os.environ.items() if k.startswith(READ_AT_IMPORT)}
    found.pop(OF_NO_MATTER, None)
    return found


_ENVIRONMENT = early_environment()


def can_fork() -> bool:
    """Whether a forked process would be like a new one."""
    return early_environment() == _ENVIRONMENT


class Forked:
    """`python -m module arguments` of a module with a `main`, with as much of subprocess.Popen as tests
    need."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path) -> None:
        reader, writer = _context.Pipe(duplex=False)
        given = (module, list(arguments), str(log), dict(os.environ), writer)
        # A daemon of multiprocessing might start no children of its own.
        self._process = _context.Process(target=_become, args=given, daemon=False)
        with warnings.catch_warnings():
            # A command that a test ran in this process ends all children, the one that forks too: both are
            # started anew.
            warnings.filterwarnings("ignore", "resource_tracker: process died", UserWarning)
            self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), "rb")
        reader.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become(
    module: str, arguments: list[str], log: str, environment: dict[str, str], output: Connection
) -> None:
    os.setsid()
    with open(os.devnull, "rb") as nothing, open(log, "ab") as errors:
        for there, here in ((nothing, 0), (output, 1), (errors, 2)):
            os.dup2(there.fileno(), here)
    output.close()
    os.environ.clear()
    os.environ.update(environment)
    if namespace := environment.get(NETWORK_NAMESPACE):
        enter(namespace)
    os.chdir(environment.get(FOLDER, "."))
    sys.argv[:] = [module, *arguments]
    is_package = hasattr(importlib.import_module(module), "__path__")
    program = importlib.import_module(f"{module}.__main__" if is_package else module)
    sys.exit(program.main())
