"""Thousands of histories; as many as SESHU_HISTORIES says, from SESHU_FIRST_HISTORY on.

Slowly, before a release: SESHU_HISTORIES=100000 python -m pytest -q tests/sessions/test_simulator.py
"""

from __future__ import annotations

from tests.histories import check, seeds, story_of
from tests.sessions import simulator
from tests.sessions.simulator import History


def test_every_history_ends_well() -> None:
    for seed in seeds(2000):
        check(History, seed)


def test_the_storm_is_a_storm() -> None:
    """What happens in 500 histories: else the first test would prove little."""
    names = {fault.__name__ for fault in simulator.FAULTS}
    seen = dict.fromkeys([*names, "LOST", "replaces", "Unreachable", "Fenced", "Unknown"], 0)
    for seed in range(500):
        text = "\n".join(story_of(History, seed))
        for name in seen:
            seen[name] += name in text
    assert min(seen.values()) >= 20, seen
