"""Shares in proportion to speed, by counting; nobody starves, nobody is flooded."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seshu_swarm.errors import PeerLostError
from seshu_swarm.pipeline.routing import BACKWARD, FORWARD, MOST_SECONDS, Router

FAR = 1e9
WORKS = (FORWARD, BACKWARD)


def router_of(*peers: str, seed: int = 0) -> Router:
    router = Router(random.Random(seed))
    router.update(dict.fromkeys(peers, FAR), now=0.0)
    return router


def units(router: Router, seconds: dict[str, float], num: int) -> Counter[str]:
    """Units of work that each gets of `num` choices, forward and backward in turn."""
    done = Counter[str]()
    for index in range(num):
        work = WORKS[index % 2]
        peer = router.choose(work)
        router.answered(peer, work, work * seconds[peer])
        done[peer] += work  # type: ignore[assignment]
    return done


@settings(max_examples=30)
@given(st.lists(st.floats(0.2, 2.0), min_size=2, max_size=6), st.integers(0, 99))
def test_shares_are_in_proportion_to_speed(taus: list[float], seed: int) -> None:
    seconds = {f"p{i}": tau for i, tau in enumerate(taus)}
    router = router_of(*seconds, seed=seed)
    units(router, seconds, 10 * len(taus))  # measured once
    done = units(router, seconds, 20_000)
    speed = sum(1.0 / tau for tau in taus)
    for peer, tau in seconds.items():
        share = done[peer] / done.total()
        assert share == pytest.approx((1.0 / tau) / speed, rel=0.02)


@settings(max_examples=30)
@given(st.lists(st.floats(0.2, 2.0), min_size=2, max_size=6))
def test_nobody_waits_longer_than_its_turn(taus: list[float]) -> None:
    """Between two turns of one replica the others do at most what fits into its step, and one each."""
    seconds = {f"p{i}": tau for i, tau in enumerate(taus)}
    router = router_of(*seconds)
    units(router, seconds, 100)
    waited = Counter[str]()
    bound = BACKWARD * max(taus) / min(taus) * len(taus) + 2 * len(taus)
    for index in range(2_000):
        chosen = router.choose(WORKS[index % 2])
        waited.update(seconds)
        waited[chosen] = 0
        assert max(waited.values()) <= bound


def test_a_new_replica_enters_at_the_least_time() -> None:
    """Not at 0: it would then get all the work until it had caught up."""
    router = router_of("a", "b")
    seconds = {"a": 1.0, "b": 1.0, "c": 1.0}
    units(router, seconds, 1_000)
    router.update(dict.fromkeys("abc", FAR), now=0.0)
    done = units(router, seconds, 30)
    assert 13 <= done["c"] <= 22  # a third of 52.5 units, and at most one pass more


def test_an_unmeasured_replica_counts_as_the_mean() -> None:
    router = router_of("a", "b")
    router.answered("a", BACKWARD, 5.0)
    assert router.seconds("a") == router.seconds("b") == 2.0


def test_the_average_begins_at_the_first_measurement() -> None:
    """By hand: after x1, x2 it is (0.9 x1 + x2) / 1.9."""
    router = router_of("a")
    router.answered("a", FORWARD, 3.0)
    assert router.seconds("a") == pytest.approx(3.0)
    router.answered("a", FORWARD, 1.0)
    assert router.seconds("a") == pytest.approx((0.9 * 3.0 + 1.0) / 1.9)


def test_a_missed_deadline_doubles_and_answers_heal() -> None:
    router = router_of("a", "b")
    for peer in "ab":
        router.answered(peer, FORWARD, 1.0)
    router.missed_deadline("a")
    assert (router.seconds("a"), router.seconds("b")) == (2.0, 1.0)
    done = Counter(router.choose(FORWARD) for _ in range(300))
    assert done["a"] == pytest.approx(100, abs=2)
    for _ in range(60):
        router.answered("a", FORWARD, 1.0)
    assert router.seconds("a") == pytest.approx(1.0, rel=0.01)


def test_an_unmeasured_replica_that_misses_a_deadline_is_slow() -> None:
    router = router_of("a", "b")
    router.answered("b", FORWARD, 1.0)
    router.missed_deadline("a")
    assert router.seconds("a") == 2.0


def test_a_replica_that_refuses_for_hours_is_no_slower_than_a_bound() -> None:
    """Its deadlines would grow beyond all times, and so many answers would not heal it."""
    router = router_of("a")
    for _ in range(5_000):
        router.choose(FORWARD)
        router.missed_deadline("a")
    assert router.seconds("a") == pytest.approx(MOST_SECONDS)
    for _ in range(60):
        router.answered("a", FORWARD, 1.0)
    assert router.seconds("a") < 1.5
    router.answered("a", FORWARD, 1e4)
    measured = router.seconds("a")
    router.missed_deadline("a")
    assert router.seconds("a") == measured > MOST_SECONDS  # what was measured stands


def test_who_failed_is_banned_until_its_record_expires() -> None:
    router = router_of("b")
    router.update({"a": 10.0, "b": FAR}, now=0.0)
    router.failed("a")
    assert {router.choose(FORWARD) for _ in range(50)} == {"b"}
    # It announced itself again: the ban goes by the record that was known when it failed.
    router.update({"a": 30.0, "b": FAR}, now=9.0)
    assert {router.choose(FORWARD) for _ in range(50)} == {"b"}
    router.update({"a": 30.0, "b": FAR}, now=10.5)
    done = Counter(router.choose(FORWARD) for _ in range(50))
    assert done["a"] == pytest.approx(25, abs=1)  # not flooded with the 100 it missed


def test_nobody_left_is_said_by_name() -> None:
    router = router_of("a")
    router.failed("a")
    with pytest.raises(PeerLostError, match="no replica of the stage is left, 1 failed"):
        router.choose(FORWARD)


def test_expired_records_are_nobody() -> None:
    router = router_of("a")
    router.update({"a": 5.0}, now=5.0)
    with pytest.raises(PeerLostError):
        router.choose(FORWARD)


def test_trainers_do_not_all_begin_at_the_same_replica() -> None:
    peers = [f"p{i}" for i in range(4)]
    first = {router_of(*peers, seed=seed).choose(FORWARD) for seed in range(40)}
    assert first == set(peers)


def test_late_answers_of_unknown_replicas_change_nothing() -> None:
    router = router_of("a")
    for call in (router.missed_deadline, router.failed):
        call("gone")
    router.answered("gone", FORWARD, 1.0)
    assert router.choose(FORWARD) == "a"
