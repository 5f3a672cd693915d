"""Thousands of histories; as many as SESHU_HISTORIES says, from SESHU_FIRST_HISTORY on.

Slowly, before a release: SESHU_HISTORIES=100000 python -m pytest -q tests/sessions/test_simulator.py
"""

from __future__ import annotations

import os

import pytest

from tests.sessions import network, simulator
from tests.sessions.network import WrongError
from tests.sessions.simulator import History, check

NUM_HISTORIES = int(os.environ.get("SESHU_HISTORIES", "2000"))
FIRST_HISTORY = int(os.environ.get("SESHU_FIRST_HISTORY", "0"))


def test_every_history_ends_well() -> None:
    for seed in range(FIRST_HISTORY, FIRST_HISTORY + NUM_HISTORIES):
        check(seed)


def test_a_history_is_the_same_each_time() -> None:
    stories: list[list[str]] = [[], []]
    for story in stories:
        History(12, story.append).run()
    assert stories[0] == stories[1]
    assert len(stories[0]) > 20


def test_a_failure_says_which_history_and_how_to_replay_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "MAX_EVENTS", 10)
    with pytest.raises(WrongError, match=r"history 5: .*no end after 10 events(.|\n)*simulator 5$"):
        check(5)


def test_the_storm_is_a_storm() -> None:
    """What happens in 500 histories: else the first test would prove little."""
    names = {fault.__name__ for fault in simulator.FAULTS}
    seen = dict.fromkeys([*names, "LOST", "replaces", "Unreachable", "Fenced", "Unknown"], 0)
    for seed in range(500):
        story: list[str] = []
        History(seed, story.append).run()
        text = "\n".join(story)
        for name in seen:
            seen[name] += name in text
    assert min(seen.values()) >= 20, seen
