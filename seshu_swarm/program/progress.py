"""Progress of long work: a bar for people at a terminal, sparse lines for logs, events for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from seshu_swarm.program import log

if TYPE_CHECKING:
    from rich.progress import Progress

EVENT_SECONDS = 0.5
LINE_SHARE = 0.1


@dataclass(frozen=True)
class Shown:
    """How far something is, a fraction from 0 to 1."""

    label: str
    fraction: float
    facts: Mapping[str, Any]
    seconds_left: float | None


# A screen that shows progress in a place of its own; None: there is nothing to show any more.
taken_by: Callable[[Shown | None], None] | None = None


class Bar:
    """`with Bar("training") as bar: bar.update(0.3, loss=2.1)`; fractions from 0 to 1."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._shown_at, self._shown_fraction = 0.0, -1.0
        self._rich: Progress | None = None
        self._began: tuple[float, float] | None = None

    def __enter__(self) -> Self:
        if taken_by is None and log.is_text() and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[facts]}"),
            )
            console = Console(stderr=True)
            self._rich = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
            self._rich.start()
            self._rich.add_task(self._label, total=1.0, facts="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._rich:
            self._rich.stop()
        elif taken_by is not None:
            taken_by(None)

    def update(self, fraction: float, **facts: Any) -> None:
        shown = " ".join(f"{name} {_short(value)}" for name, value in facts.items())
        if self._rich:
            self._rich.update(self._rich.task_ids[0], completed=fraction, facts=shown)
        elif taken_by is not None:
            taken_by(Shown(self._label, fraction, facts, self._seconds_left(fraction)))
        elif self._is_due(fraction):
            left = self._seconds_left(fraction)
            text = f"{self._label} {fraction:.0%} {shown}" + _left(left)
            facts |= {} if left is None else {"seconds_left": round(left)}
            log.event("progress", text, label=self._label, fraction=fraction, **facts)

    def _seconds_left(self, fraction: float) -> float | None:
        """At the speed since the first update; what was done before it took no time here."""
        now = time.monotonic()
        began, first = self._began = self._began or (now, fraction)
        return (now - began) * (1 - fraction) / (fraction - first) if fraction > first else None

    def _is_due(self, fraction: float) -> bool:
        now = time.monotonic()
        if log.is_text():
            due = (
                fraction - self._shown_fraction >= LINE_SHARE
                or fraction >= 1 > self._shown_fraction
            )
        else:
            due = now - self._shown_at >= EVENT_SECONDS or fraction >= 1
        if due:
            self._shown_at, self._shown_fraction = now, fraction
        return due


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", {timedelta(seconds=round(seconds))} left"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
