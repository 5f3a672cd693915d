"""One method measured in a fresh process, whose memory no earlier measurement has touched.

The asked process answers with one line of JSON, and ends when the one that asked is gone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass

from seshu_swarm.bench.merge.sizes import Sizes
from seshu_swarm.errors import ResourceError


@dataclass(frozen=True, kw_only=True)
class Task:
    """Merge by `method`; by mergekit's method of that name where `is_theirs`."""

    method: str
    sizes: Sizes
    threads: int
    is_theirs: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """`floor_seconds`: making every ΔW once, merging none. `peak_bytes`: what the merge added to
    the process; None where the system does not tell."""

    seconds: float
    floor_seconds: float
    peak_bytes: int | None


def measure_in_child(task: Task) -> Measured:
    """Raises ResourceError when the child ends early, for want of memory above all."""
    command = [sys.executable, "-m", __name__, json.dumps(asdict(task))]
    # Its standard input stays open for as long as this process lives.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.read()
            code = process.wait()
        finally:
            process.kill()
    if code != 0:
        raise ResourceError(
            f"measuring the merge by {task.method} ended with code {code}",
            rule="a negative code is a signal; -9 mostly means that memory ran out",
            way_out="close other programs and run the bench again",
        )
    return Measured(**json.loads(said.splitlines()[-1]))


def task_of(text: str) -> Task:
    """The task that `measure_in_child` wrote."""
    fields = json.loads(text)
    return Task(**{**fields, "sizes": Sizes(**fields["sizes"])})


def main(arguments: list[str]) -> int:
    """`python -m seshu_swarm.bench.merge.child TASK`: prints one line of JSON."""
    # The asking process tells people that it was interrupted; this one just ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_input, daemon=True).start()
    from seshu_swarm.bench.merge.alone import measure

    print(json.dumps(asdict(measure(task_of(arguments[0])))), flush=True)
    return 0


def _end_with_input() -> None:
    """End this process when standard input ends: when the one that asked is gone."""
    # Not sys.stdin, whose lock a daemon thread would hold when this process ends by itself.
    while os.read(0, 1):
        continue
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
