"""Live progress of the demo: phases with their time budgets, one line for each peer.

At a terminal a rich display that redraws itself; elsewhere one line for each thing that happens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from seshu_swarm.program.children import Event

BORING = frozenset({"progress", "token"})


@dataclass
class Phase:
    """A phase of the story. `budget_seconds` is what it should take."""

    name: str
    budget_seconds: float
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def seconds(self) -> float:
        if self.started_at is None:
            return 0.0
        return (self.ended_at or time.monotonic()) - self.started_at


@dataclass
class Line:
    """What is known of one peer."""

    text: str = "starting"
    fraction: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Board:
    """`with Board(phases) as board`: hear events, enter phases, show both."""

    def __init__(self, phases: list[Phase], console: Console) -> None:
        self.phases, self._console = phases, console
        self._lines: dict[str, Line] = {}
        self._live: Live | None = None
        self._started_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._draw, console=self._console, refresh_per_second=4
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_phase()
        if self._live:
            self._live.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started_at

    def enter(self, name: str) -> None:
        """The phase of that name begins; the one before it ends."""
        self._close_phase()
        phase = next(p for p in self.phases if p.name == name)
        phase.started_at = time.monotonic()
        self._say(f"── {name} (about {phase.budget_seconds:.0f} s)")

    def _close_phase(self) -> None:
        for phase in self.phases:
            if phase.started_at is not None and phase.ended_at is None:
                phase.ended_at = time.monotonic()

    def hear(self, name: str, event: Event) -> None:
        line = self._lines.setdefault(name, Line())
        if event["event"] == "token":
            line.text = (
                (line.text + event["text"])[-60:] if line.fraction is None else event["text"]
            )
            return
        line.fraction = event.get("fraction")
        line.facts = {k: event[k] for k in ("loss", "tokens_per_second", "doing") if k in event}
        line.text = "" if event["event"] in BORING else event["text"].strip().splitlines()[0]
        if event["event"] not in BORING:
            self._say(f"{name}: {line.text}")

    def _say(self, text: str) -> None:
        if self._live is None:
            # Soft wrap: a join link must come out in one piece.
            line = f"[{self.seconds:5.0f} s] {text}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw(self) -> Group:
        return Group(self._draw_phases(), Text(), self._draw_peers())

    def _draw_phases(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for phase in self.phases:
            state = "✓" if phase.ended_at else "▶" if phase.started_at else " "
            bar = ProgressBar(
                total=phase.budget_seconds,
                completed=min(phase.seconds, phase.budget_seconds),
                width=24,
            )
            clock = f"{phase.seconds:.0f} of about {phase.budget_seconds:.0f} s"
            table.add_row(state, phase.name, bar, clock if phase.started_at else "")
        return table

    def _draw_peers(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for name, line in self._lines.items():
            facts = "  ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in line.facts.items())
            bar = ProgressBar(total=1.0, completed=line.fraction, width=16) if line.fraction else ""
            table.add_row(Text(name, style="bold"), bar, Text(f"{line.text} {facts}"[:110]))
        return table


def _short(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 100
        else (f"{value:.0f}" if isinstance(value, float) else str(value))
    )
