"""The deadline for a ping follows what was measured, within its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.client.chain.patience import (
    FACTOR,
    FIRST_SECONDS,
    LEAST_SECONDS,
    REMEMBERED,
    Patience,
)


def test_before_anything_was_measured_it_is_generous() -> None:
    assert Patience().seconds == FIRST_SECONDS > LEAST_SECONDS


def test_it_waits_some_times_the_slowest_that_it_remembers() -> None:
    patience = Patience()
    for seconds in (0.01, 0.4, 0.02):
        patience.add(seconds)
    assert patience.seconds == pytest.approx(FACTOR * 0.4)


def test_one_slow_wait_is_forgotten_in_the_end() -> None:
    patience = Patience()
    patience.add(5.0)
    for _ in range(REMEMBERED - 1):
        patience.add(0.2)
    assert patience.seconds == pytest.approx(FACTOR * 5.0)
    patience.add(0.2)
    assert patience.seconds == pytest.approx(FACTOR * 0.2)


def test_it_is_never_less_than_what_a_stalled_link_takes() -> None:
    quick, careful = Patience(), Patience(least_seconds=0.5)
    for patience in (quick, careful):
        patience.add(1e-6)
    assert (quick.seconds, careful.seconds) == (LEAST_SECONDS, 0.5)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=2 * REMEMBERED))
def test_no_remembered_wait_would_have_been_cut_short(waits: list[float]) -> None:
    patience = Patience()
    for seconds in waits:
        patience.add(seconds)
    assert patience.seconds >= max(waits[-REMEMBERED:])
    assert patience.seconds <= max(LEAST_SECONDS, FACTOR * max(waits))
