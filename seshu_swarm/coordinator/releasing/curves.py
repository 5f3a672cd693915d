"""Bits per byte of every language over the rounds: a table for programs, a picture for people.

Both come from the reports that rounds leave in the run's folder, so they can be made again at any
time, and the same reports give the same bytes. Knows nothing of models and of who publishes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from seshu_swarm.coordinator.releasing.reports import published

MEASURE = "bits per byte of held-out answers, final split"


@dataclass(frozen=True)
class Step:
    """One published round in one language: from the parent's bits per byte to the checkpoint's.

    `since` is the round of the parent (0: the base); `low` and `high` bound the middle 95 % of
    the change.
    """

    round: int
    since: int
    before: float
    after: float
    low: float
    high: float

    @property
    def change(self) -> float:
        return self.after - self.before


Curves = dict[str, list[Step]]


def curves_of(reports: Sequence[Mapping[str, Any]]) -> Curves:
    """Language → its steps, in the order of the rounds."""
    curves: Curves = {}
    made_by: dict[str, int] = {}
    for report in published(reports):
        since = made_by.get(report["parent"], max(made_by.values(), default=0))
        made_by[report["revision"]] = report["round"]
        for language, numbers in report["languages"].items():
            change = numbers["change"]
            steps = curves.setdefault(language, [])
            steps.append(
                Step(
                    round=report["round"],
                    since=since,
                    before=numbers["before"],
                    after=numbers["after"],
                    low=change["low"],
                    high=change["high"],
                )
            )
    return curves


def table_of(curves: Curves, reports: Sequence[Mapping[str, Any]]) -> bytes:
    """The curves as JSON. `rounds` names those too that published nothing."""
    rounds = [{"round": r["round"], "state": r["state"]} for r in reports]
    languages = {
        language: {"name": name_of(language), "steps": [asdict(step) for step in steps]}
        for language, steps in curves.items()
    }
    table = {"measure": MEASURE, "rounds": rounds, "languages": languages}
    return (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def name_of(language: str) -> str:
    """The English name of an ISO code, or nothing."""
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(language.replace("-", "_")).english_name or ""
    except (UnknownLocaleError, ValueError):
        return ""
