"""Hundreds of histories; as many as SESHU_HISTORIES says, from SESHU_FIRST_HISTORY on.

Slowly, before a release: SESHU_HISTORIES=50000 python -m pytest -q tests/pipeline/test_simulator.py
"""

from __future__ import annotations

import os

import pytest

from tests.pipeline import simulator
from tests.pipeline.simulator import History, check
from tests.sessions import network
from tests.sessions.network import WrongError

NUM_HISTORIES = int(os.environ.get("SESHU_HISTORIES", "500"))
FIRST_HISTORY = int(os.environ.get("SESHU_FIRST_HISTORY", "0"))


def test_every_id_of_every_step_is_committed_once_at_every_stage() -> None:
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
    """What happens in 250 histories: else the first test would prove little."""
    names = {f"-- {fault.__name__}" for fault in simulator.FAULTS}
    refusals = {"WRONG_VERSION", "WRONG_ROUND", "SEALED:", "WITHDRAWN"}
    seen = dict.fromkeys([*names, *refusals, "CLEAR", "DOWNLOAD", "is LOST to"], 0)
    num_replays = num_lost = 0
    for seed in range(250):
        story: list[str] = []
        history = History(seed, story.append)
        history.run()
        text = "\n".join(story)
        for name in seen:
            seen[name] += name in text
        rounds = sum(group.round for group in history.conducting.conductor.groups)
        num_replays += rounds > len(history.conducting.steps) * history.num_stages
        num_lost += "LOST ITS WEIGHTS" in text
    assert min(seen.values()) >= 5, seen
    assert num_replays >= 50
    assert num_lost <= 3
