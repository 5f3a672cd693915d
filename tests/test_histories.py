"""What every simulator owes its readers: histories that come again, failures that can be replayed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tests.pipeline.simulator
import tests.sessions.simulator
from tests.histories import History, check, seeds, story_of
from tests.sessions import network
from tests.sessions.network import WrongError

KINDS: list[type[History]] = [tests.pipeline.simulator.History, tests.sessions.simulator.History]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["pipeline", "sessions"])


@every_kind
def test_a_history_is_the_same_each_time(kind: type[History]) -> None:
    story = story_of(kind, 12)
    assert story == story_of(kind, 12)
    assert len(story) > 20


@every_kind
def test_a_failure_says_which_history_and_how_to_replay_it(
    kind: type[History], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "MAX_EVENTS", 10)
    with pytest.raises(WrongError) as caught:
        check(kind, 5)
    found = re.fullmatch(
        r"history 5: .*no end after 10 events(?:.|\n)*replay: python -m (\S+) 5", str(caught.value)
    )
    assert found is not None, str(caught.value)
    monkeypatch.undo()
    command = [sys.executable, "-m", found[1], "5"]
    root = Path(__file__).parents[1]
    told = subprocess.check_output(command, cwd=root, text=True, timeout=60).splitlines()
    # Another process writes the members of a set in another order.
    assert [sorted(line) for line in told] == [sorted(line) for line in story_of(kind, 5)]


def test_the_environment_says_how_many_and_from_where(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SESHU_HISTORIES", "SESHU_FIRST_HISTORY"):
        monkeypatch.delenv(name, raising=False)
    assert seeds(500) == range(500)
    monkeypatch.setenv("SESHU_HISTORIES", "3")
    monkeypatch.setenv("SESHU_FIRST_HISTORY", "40")
    assert list(seeds(500)) == [40, 41, 42]
