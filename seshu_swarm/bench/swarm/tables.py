"""What people see of a bench of a swarm: a row for each measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from seshu_swarm.program import log


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Nothing where programs listen. Rows may differ in columns."""
    if not log.is_text():
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*(name.replace("_", " ") for name in names), title=title)
    for row in rows:
        table.add_row(*(cell(row.get(name, "")) for name in names))
    Console().print(table)


def cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
