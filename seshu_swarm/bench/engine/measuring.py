"""Best times of calls that take turns, and how far a process's memory grows during one.

Other programs only ever make a call slower, so the best of several counts; calls alternate, so that
a slow spell of the machine meets all of them and ratios stay fair.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 6
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): the peak resident set size becomes the current one

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """The best of `repeats` runs."""

    seconds: float
    repeats: int


def timed(call: Call) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def best_of(
    calls: Mapping[str, Call], *, seconds: float, rounds: int = ROUNDS
) -> dict[str, Timing]:
    """Each call runs for `seconds` in all, at least once, the calls taking turns `rounds` times.

    A call longer than its share of a round sits out rounds until the others have caught up.
    """
    runs: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(1, rounds + 1):
        share = seconds * number / rounds
        for name, call in calls.items():
            while not runs[name] or sum(runs[name]) < share:
                runs[name].append(timed(call))
    return {name: Timing(min(times), len(times)) for name, times in runs.items()}


def peak_growth_bytes(call: Call) -> tuple[float, int | None]:
    """Seconds of one run, and how far the resident memory rose above what it was before.

    The second is None where the kernel does not say or will not reset the peak: outside Linux, and
    in some containers. Nothing else may run in this process meanwhile.
    """
    try:
        CLEAR.write_text(RESET_PEAK)
        before = _status_bytes("VmRSS")
    except (OSError, LookupError):
        return timed(call), None
    seconds = timed(call)
    return seconds, max(0, _status_bytes("VmHWM") - before)


def _status_bytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(field)
    return 1024 * int(found[1])
