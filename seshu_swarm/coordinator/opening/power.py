"""What a run's gate set can show, per language, before anybody trains for it.

A language whose smallest detectable gain is too large is unscored: its adapters count for no gain,
and its specialists wait for more text. Pure: counts and measured noise in, a table out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from seshu_swarm.evaluate.accept import AcceptRule
from seshu_swarm.evaluate.paired import alpha_of_test, smallest_detectable_gain

# Standard deviation of a document's paired difference, in bits per byte, until a gate measures it:
# that of rows of the phrasebook after a first round.
ASSUMED_NOISE = 0.06
DETECTION = 0.95


@dataclass(frozen=True)
class Power:
    """`smallest_detectable` is the gain, in bits per byte, that the next reading finds 19 times in 20."""

    language: str
    num_documents: int
    readings_left: int
    smallest_detectable: float
    is_scored: bool


def powers(
    num_documents: Mapping[str, int],
    *,
    readings: int,
    max_readings: int,
    noise: Mapping[str, float],
    rule: AcceptRule | None = None,
) -> list[Power]:
    """By language; `readings` of the gate set were made, `noise` was measured where it is known."""
    rule = rule or AcceptRule()
    alpha = alpha_of_test(readings + 1, rule.alpha)
    found = []
    for language, count in num_documents.items():
        error = noise.get(language, ASSUMED_NOISE) / math.sqrt(count) if count else math.inf
        smallest = smallest_detectable_gain(error, alpha=alpha, power=DETECTION)
        is_scored = count >= rule.min_documents and smallest <= rule.max_detectable
        left = max(0, max_readings - readings)
        found.append(Power(language, count, left, smallest, is_scored))
    return found


def measured_noise(gates: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Language → median over gates of the noise of one document; `gates` are decisions as JSON."""
    seen: dict[str, list[float]] = {}
    for gate in gates:
        for language, found in gate["comparisons"]["gains"].items():
            if found["standard_error"] is not None:
                noise = found["standard_error"] * math.sqrt(found["num_documents"])
                seen.setdefault(language, []).append(noise)
    return {language: statistics.median(values) for language, values in seen.items()}


def power_table(found: Sequence[Power], *, is_measured: bool) -> Table:
    """For people."""
    noise = "measured" if is_measured else f"assumed: {ASSUMED_NOISE:g} bits per byte"
    table = Table(title=f"what the gate can show (noise of a document {noise})")
    for name in ("language", "documents", "tests left", "smallest gain it finds", ""):
        table.add_column(name, justify="left" if name in ("language", "") else "right")
    for one in found:
        table.add_row(
            one.language,
            str(one.num_documents),
            str(one.readings_left),
            f"{one.smallest_detectable:.4f} bits per byte",
            "scored" if one.is_scored else "unscored: needs more text",
        )
    return table
