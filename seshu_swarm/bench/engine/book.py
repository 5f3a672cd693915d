"""The rows measured so far, and the best rates."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from seshu_swarm.bench.engine import floors
from seshu_swarm.bench.engine.child import Measured
from seshu_swarm.bench.engine.rates import Rates
from seshu_swarm.bench.engine.sizes import Workload


class Kind(StrEnum):
    TRAINING = "training step"
    PREFILL = "prefill"
    DECODE = "decode of a token"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Best seconds of one engine at one piece of work."""

    kind: Kind
    work: Workload
    engine: str
    seconds: float
    repeats: int

    @property
    def tokens_per_second(self) -> float:
        tokens = self.work.batch if self.kind is Kind.DECODE else self.work.num_tokens
        return tokens / self.seconds

    def floor_seconds(self, rates: Rates) -> float:
        match self.kind:
            case Kind.TRAINING:
                return floors.train_floor_seconds(self.work, rates)
            case Kind.PREFILL:
                return floors.prefill_floor_seconds(self.work, rates)
            case Kind.DECODE:
                return floors.decode_floor_seconds(self.work.shape, rates)


@dataclass(frozen=True, kw_only=True)
class GrowthRow:
    """One engine at one length, measured in a process of its own."""

    engine: str
    length_tokens: int
    measured: Measured

    @property
    def train_tokens_per_second(self) -> float:
        return self.length_tokens / self.measured.train_seconds


@dataclass
class Book:
    """`peak_bytes` of a training step, by work and engine; None where the system does not tell."""

    rows: list[Row] = field(default_factory=list)
    growth: list[GrowthRow] = field(default_factory=list)
    peak_bytes: dict[tuple[Workload, str], int | None] = field(default_factory=dict)
    rates: Rates | None = None

    def add_rates(self, rates: Rates) -> None:
        """Keep the best: another program's slow spell is no limit of the machine."""
        self.rates = rates.best(self.rates) if self.rates else rates

    def to_json(self) -> list[dict[str, Any]]:
        """The rows of the report."""
        rows: list[dict[str, Any]] = [
            {"measured": row.kind.value, "work": row.work.label, "engine": row.engine}
            | {"seconds": row.seconds, "repeats": row.repeats}
            | {"floor_seconds": row.floor_seconds(self.rates) if self.rates else None}
            for row in self.rows
        ]
        memory = [
            {"measured": "memory of a training step", "work": work.label, "engine": engine}
            | {"peak_bytes": peak_bytes}
            for (work, engine), peak_bytes in self.peak_bytes.items()
        ]
        growth = [
            {"measured": "growth with length", "engine": row.engine}
            | {"length_tokens": row.length_tokens}
            | asdict(row.measured)
            for row in self.growth
        ]
        return rows + memory + growth
