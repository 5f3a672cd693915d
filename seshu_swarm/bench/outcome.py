"""What a bench returns: numbers by stable name, and the rows of its tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seshu_swarm.program.reports import Result


@dataclass(frozen=True)
class Outcome:
    """`results` go into the report under their names; `rows` hold what they were computed from."""

    results: Mapping[str, Result]
    rows: Sequence[Mapping[str, Any]] = ()
