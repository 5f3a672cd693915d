"""States of a round: one way forward, one way out."""

from __future__ import annotations

from itertools import pairwise

import pytest

from seshu_swarm.coordinator.rounds.states import ENDED, RoundState, Window, advance
from seshu_swarm.errors import RoundError

FORWARD = ["open", "gathering", "checking", "selecting", "gating", "verifying", "published"]


def test_every_pair_of_states_is_allowed_or_refused_as_the_drawing_says() -> None:
    allowed = {*pairwise(FORWARD), *((s, "aborted") for s in FORWARD[:-1])}
    for state in RoundState:
        for to in RoundState:
            if (state, to) in allowed:
                assert advance(state, to) is to
            else:
                with pytest.raises(RoundError, match=f"cannot go from {state} to {to}"):
                    advance(state, to)


def test_only_published_and_aborted_are_ends() -> None:
    assert {str(state) for state in ENDED} == {"published", "aborted"}


@pytest.mark.parametrize(
    ("close_after", "now", "count", "is_over"),
    [
        (None, 99.9, 1_000, False),
        (None, 100.0, 0, True),
        (3, 0.0, 2, False),
        (3, 0.0, 3, True),
        (3, 100.0, 0, True),
    ],
)
def test_a_round_closes_by_the_clock_or_early_when_enough_arrived(
    close_after: int | None, now: float, count: int, is_over: bool
) -> None:
    assert Window(100.0, close_after).is_over(now, count) is is_over
