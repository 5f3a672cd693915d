"""What a peer's owner sees of it, as one panel. Pure: times are passed in.

The table is that of `status`: names and values, of which `_bytes` are bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from seshu_swarm.peer.guest import Limits
from seshu_swarm.peer.seen import Seen
from seshu_swarm.program.progress import Shown
from seshu_swarm.program.waits import Wait, lasting

# Shown in places of their own, or of no interest to somebody who looks at the process itself.
PLACED = {"role", "run", "blocks", "revision", "sessions", "steps", "tokens", "doing", "paused"}
PLACED |= {"memory_bytes", "uploaded_today_bytes", "limits", "pid", "time"}
SHORT = 12  # digits of digests
LONGEST = 200  # characters of a value
TITLE = {"role": "", "run": "run "}  # name of a fact → what stands before it
HINT = "Ctrl-C leaves in order"


def panel(seen: Seen, waits: Sequence[Wait], now: float) -> Panel:
    """`now`: of the monotonic clock."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", justify="right")
    rows.add_column()
    for name, value in _rows(seen, waits, now):
        rows.add_row(name, value)
    named = [f"{before}{seen.table[name]}" for name, before in TITLE.items() if name in seen.table]
    title = ["Seshu peer", *named]
    return Panel(
        rows,
        title=Text(" · ".join(title), "bold"),
        subtitle=Text(HINT, "dim"),
        title_align="left",
        subtitle_align="right",
        border_style="dim",
    )


def _rows(seen: Seen, waits: Sequence[Wait], now: float) -> Iterator[tuple[str, RenderableType]]:
    table = seen.table
    if paused := table.get("paused"):
        yield "paused", Text(str(paused)[:LONGEST], "yellow")
    if "blocks" in table:
        yield (
            "hosts",
            _line(f"blocks {table['blocks']}", f"revision {str(table.get('revision'))[:SHORT]}"),
        )
    if "role" in table:
        yield "gives", _given(table)
    if table.get("doing"):
        yield "does", _line(str(table["doing"])[:LONGEST], lasting(now - seen.since))
    if seen.progress is not None:
        yield "", _bar(seen.progress)
    if more := _others(table):
        yield "facts", _line(*more)
    for wait in _waits(seen, waits, now):
        yield "waits", wait
    if "role" in table:
        yield "limits", _line(*_limits(seen.limits, table))


def _line(*parts: str) -> Text:
    return Text(" · ".join(parts))


def _given(table: Mapping[str, Any]) -> Text:
    parts = [f"{table[name]:,} {name}" for name in ("tokens", "sessions") if name in table]
    return _line(*parts, f"{table['uploaded_today_bytes'] / 1e6:,.1f} MB sent today")


def _others(table: Mapping[str, Any]) -> list[str]:
    found = {name: value for name, value in table.items() if name not in PLACED}
    return [_named(name, value) for name, value in found.items() if value not in (None, "")]


def _named(name: str, value: Any) -> str:
    words = name.removesuffix("_bytes").replace("_", " ")
    if name.endswith("_bytes"):
        return f"{words} {value / 1e6:,.1f} MB"
    if isinstance(value, float):
        return f"{words} {value:.4g}"
    text = str(value)
    is_digest = len(text) == 64
    return f"{words} {text[: SHORT if is_digest else LONGEST]}"


def _waits(seen: Seen, waits: Sequence[Wait], now: float) -> Iterator[Text]:
    for wait in waits:
        most = "" if wait.most_seconds is None else f" of at most {lasting(wait.most_seconds)}"
        yield Text(f"for {wait.what}, {lasting(now - wait.since)}{most}")
    if seen.idle_since is not None and not waits:
        yield Text(f"for somebody who asks, {lasting(now - seen.idle_since)}")


def _bar(shown: Shown) -> Table:
    facts = " ".join(f"{name} {_number(value)}" for name, value in shown.facts.items())
    left = "" if shown.seconds_left is None else f", {lasting(shown.seconds_left)} left"
    row = Table.grid(padding=(0, 1))
    words = f"{shown.label} {shown.fraction:.0%} {facts}{left}"
    row.add_row(ProgressBar(total=1.0, completed=shown.fraction, width=24), Text(words))
    return row


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _limits(limits: Limits, table: Mapping[str, Any]) -> Iterator[str]:
    """Each limit beside what is used of it."""
    used, sent = table["memory_bytes"] / 1e6, table["uploaded_today_bytes"] / 1e6
    most, most_sent = limits.max_memory_bytes, limits.max_upload_bytes
    yield (
        f"memory {used:,.0f} MB" if most is None else f"memory {used:,.0f} of {most / 1e6:,.0f} MB"
    )
    yield (
        "upload without limit"
        if most_sent is None
        else (f"upload {sent:,.1f} of {most_sent / 1e6:,.1f} MB a day")
    )
    yield "all hours" if limits.hours is None else f"hours {limits.hours[0]}-{limits.hours[1]}"
    if limits.max_threads is not None:
        yield f"threads {limits.max_threads}"
    if limits.pause_on_battery:
        yield "not on battery"
