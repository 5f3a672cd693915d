"""Hundreds of histories; as many as SESHU_HISTORIES says, from SESHU_FIRST_HISTORY on.

Slowly, before a release: SESHU_HISTORIES=50000 python -m pytest -q tests/pipeline/test_simulator.py
"""

from __future__ import annotations

from tests.histories import check, seeds
from tests.pipeline import simulator
from tests.pipeline.simulator import History


def test_every_id_of_every_step_is_committed_once_at_every_stage() -> None:
    for seed in seeds(500):
        check(History, seed)


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
