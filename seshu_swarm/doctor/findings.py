"""A line of the doctor's answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

EXIT_FAILED = 1


class Grade(StrEnum):
    """PASS: fine. WARN: works, and costs something. FAIL: does not work before it is changed."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """`way_out` is empty where there is nothing to do."""

    name: str
    grade: Grade
    what: str
    way_out: str = ""


def passed(name: str, what: str, way_out: str = "") -> Finding:
    return Finding(name, Grade.PASS, what, way_out)


def warned(name: str, what: str, way_out: str) -> Finding:
    return Finding(name, Grade.WARN, what, way_out)


def failed(name: str, what: str, way_out: str) -> Finding:
    return Finding(name, Grade.FAIL, what, way_out)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 where nothing failed."""
    return EXIT_FAILED if any(f.grade is Grade.FAIL for f in findings) else 0


def size(num_bytes: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes / 1e3:.0f} kB"
