"""What a process and everything it started hold in memory, as Linux accounts for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from seshu_swarm.errors import ResourceError


@dataclass(frozen=True)
class Held:
    """Bytes. `pss`: pages shared by n processes count 1/n each; `own`: pages of these alone."""

    num_processes: int
    pss: int
    own: int


def held_by(pid: int) -> Held:
    """The process and its descendants. Raises ResourceError where the kernel does not tell."""
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    texts = [_rollup(member) for member in family]
    own = sum(_bytes_of(text, f"Private_{kind}") for text in texts for kind in ("Clean", "Dirty"))
    return Held(len(family), sum(_bytes_of(text, "Pss") for text in texts), own)


def _rollup(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError as error:
        raise ResourceError(
            f"cannot read the memory of process {pid}: {error.strerror}",
            rule="the bench reads /proc/PID/smaps_rollup",
            way_out="run it on Linux, as the user who owns the process",
        ) from None


def _bytes_of(text: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
