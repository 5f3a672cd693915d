"""Faults, the stalls they cause, and what is said of many. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from seshu_swarm.bench.swarm.summary import Times, quantile
from seshu_swarm.program.reports import Result


class Fault(StrEnum):
    KILL = "kill"
    SILENCE = "silence"
    TWO = "two neighbours"
    TWO_SILENT = "two silent neighbours"

    @property
    def is_silent(self) -> bool:
        return self in (Fault.SILENCE, Fault.TWO_SILENT)

    @property
    def is_of_two(self) -> bool:
        return self in (Fault.TWO, Fault.TWO_SILENT)

    @property
    def result(self) -> str:
        """What its stalls are called in a report."""
        match self:
            case Fault.KILL:
                return "stall"
            case Fault.SILENCE:
                return "stall_silent"
            case Fault.TWO:
                return "stall_two_neighbours"
            case Fault.TWO_SILENT:
                return "stall_two_silent_neighbours"


@dataclass(frozen=True)
class StallRow:
    """One fault. `struck`: which spans of the chain were."""

    fault: str
    position: int
    struck: str
    normal_ms: float
    stall_ms: float
    failovers: int
    identical: bool


def summed_up(rows: Sequence[StallRow]) -> list[dict[str, Result | str | int]]:
    """A line for each fault and position: of all its times, then of each place that was struck."""
    lines: list[dict[str, Result | str | int]] = []
    for fault, position in dict.fromkeys((row.fault, row.position) for row in rows):
        of = [row for row in rows if (row.fault, row.position) == (fault, position)]
        places = list(dict.fromkeys(row.struck for row in of))
        for struck in ["any", *places] if len(places) > 1 else places:
            lines.append(_line([row for row in of if struck in ("any", row.struck)], struck))
    return lines


def _line(rows: Sequence[StallRow], struck: str) -> dict[str, Result | str | int]:
    times = _times(rows)
    return {
        "fault": rows[0].fault,
        "position": rows[0].position,
        "struck": struck,
        "times": times.count,
        "normal_token_ms": quantile([row.normal_ms for row in rows], 0.5),
        "stall_ms_p50": times.p50_ms,
        "stall_ms_p99": times.p99_ms,
        "tokens_identical": all(row.identical for row in rows),
    }


def results_of(rows: Sequence[StallRow]) -> dict[str, Result]:
    """`stall_ms_*` are of all single kills, `stall_silent_ms_*` of single silences. Ratios compare the
    median of each later position with that of the first."""
    results: dict[str, Result] = {}
    for fault in Fault:
        if of := [row for row in rows if row.fault == fault]:
            results |= _of_fault(of, fault.result)
    if rows:
        results["tokens_identical"] = all(row.identical for row in rows)
    return results


def _of_fault(rows: Sequence[StallRow], name: str) -> dict[str, Result]:
    times = _times(rows)
    results: dict[str, Result] = {f"{name}_ms_p50": times.p50_ms, f"{name}_ms_p99": times.p99_ms}
    for struck in dict.fromkeys(row.struck for row in rows):
        times = _times([row for row in rows if row.struck == struck])
        results[f"{name}_ms_p50_{struck.replace(' ', '_')}"] = times.p50_ms
    positions = dict.fromkeys(row.position for row in rows)
    at = {p: _times([row for row in rows if row.position == p]).p50_ms for p in positions}
    results |= {f"{name}_ms_p50_{position}": ms for position, ms in at.items()}
    first, *later = at
    for position in later:
        ratio = at[position] / at[first] if at[first] else math.nan
        results[f"{name}_{position}_vs_{first}"] = ratio
    return results


def _times(rows: Sequence[StallRow]) -> Times:
    return Times.of([row.stall_ms / 1e3 for row in rows])
