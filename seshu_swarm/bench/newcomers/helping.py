"""`bench help`: how long `--help` of every command takes, in fresh processes; the best of three."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.swarm import tables
from seshu_swarm.errors import SeshuError
from seshu_swarm.program.cli import Command

MODULES = ("seshu_swarm", "seshu_swarm.peer", "seshu_swarm.client", "seshu_swarm.coordinator")
TIMES = 3


def run_bench(settings: BenchConfig) -> Outcome:
    """Slowest first. Raises SeshuError where a command gives no help."""
    seconds = {" ".join(words): _best(words) for words in commands()}
    slowest_first = sorted(seconds.items(), key=lambda item: -item[1])
    rows = [{"command": command, "seconds": one} for command, one in slowest_first]
    tables.show("--help, best of three", rows)
    numbers = {"help_commands": len(seconds), "help_seconds_slowest": max(seconds.values())}
    return Outcome(numbers, rows)


def commands() -> list[tuple[str, ...]]:
    """The words after `python -m`, of every role and every command."""
    found: list[tuple[str, ...]] = []
    for module in MODULES:
        # By name: roles may not be imported here, and their tables are what their help is made of.
        table: tuple[Command, ...] = importlib.import_module(f"{module}.__main__").COMMANDS
        found += [(module,), *((module, *command.name.split()) for command in table)]
    return found


def _best(words: tuple[str, ...]) -> float:
    return min(_seconds(words) for _ in range(TIMES))


def _seconds(words: tuple[str, ...]) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *words, "--help"], capture_output=True, check=False
    )
    if done.returncode != 0:
        raise SeshuError(
            f"{' '.join(words)} --help ended with {done.returncode}",
            rule="every command explains itself",
            way_out="run it by itself to see why",
        )
    return time.perf_counter() - began
