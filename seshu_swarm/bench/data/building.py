"""One build as a person starts it: its wall time, and the memory of all its processes together."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from seshu_swarm.errors import ResourceError

SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Measured:
    """`peak_bytes`: the proportional share of memory of all processes, at most; files that are
    mapped count. `cpu_seconds`: of all processes, whatever else the machine did."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def build(recipe: Path, out: Path, *, num_workers: int) -> Measured:
    """Raises ResourceError when the build fails."""
    command = [sys.executable, "-m", "seshu_swarm", "data", "build", str(recipe)]
    command += ["--out", str(out), "--workers", str(num_workers), "--end-with-parent"]
    began, cpu_began = time.perf_counter(), _cpu_seconds()
    peak_bytes = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak_bytes = max(peak_bytes, memory_bytes(process.pid))
            time.sleep(SAMPLE_SECONDS)
    if process.returncode != 0:
        raise ResourceError(f"a build ended with code {process.returncode}")
    seconds = time.perf_counter() - began
    return Measured(seconds, _cpu_seconds() - cpu_began, peak_bytes)


def _cpu_seconds() -> float:
    """Of the processes below this one that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_bytes(pid: int) -> int:
    """Of a process and all below it; those that end while they are looked at count nothing."""
    total = 0
    try:
        for process in (one := psutil.Process(pid), *one.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total
