"""Where a peer had better be: hand-made swarms with one right answer."""

from __future__ import annotations

import random

import pytest

from seshu_swarm.peer.rebalancing import Load, better_span, throughput
from seshu_swarm.spans import Span

ANYWHERE = float("inf")


def load(name: str, start: int, end: int, seconds: float = 0.1) -> Load:
    return Load(name, Span(start, end), seconds)


def better(
    loads: list[Load], me: str, num_blocks: int, *, worth_moving: float = 0.75
) -> Span | None:
    """The answer of every seed; a test with one right answer must not depend on it."""
    found = {
        better_span(loads, me, num_blocks, random.Random(seed), worth_moving=worth_moving)
        for seed in range(8)
    }
    assert len(found) == 1
    return found.pop()


def test_throughput_adds_up_by_block_and_takes_unmeasured_peers_for_usual_ones() -> None:
    loads = [load("a", 0, 2, 0.1), load("b", 1, 3, 0.5), load("c", 2, 9, 0.0)]
    assert throughput(loads, 4, 0.25) == pytest.approx([10.0, 12.0, 6.0, 4.0])


def test_a_spare_peer_moves_to_the_blocks_that_hold_everybody_up() -> None:
    loads = [load("a", 0, 2), load("b", 0, 2), load("c", 0, 2), load("slow", 2, 4, 0.4)]
    assert better(loads, "a", 4) == Span(2, 4)


def test_a_gap_is_filled_whatever_the_pace() -> None:
    assert better([load("a", 0, 2), load("b", 0, 2)], "a", 4) == Span(2, 4)


def test_nobody_leaves_blocks_that_nobody_else_hosts() -> None:
    loads = [load("a", 0, 2), load("slow", 2, 4, 9.0)]
    assert better(loads, "a", 4) is None
    assert better(loads, "a", 4, worth_moving=ANYWHERE) is None


def test_a_small_gain_is_not_worth_the_trouble() -> None:
    """Three against four peers: the weakest block would get 4/3 as fast, and no faster."""
    loads = [load(f"l{i}", 0, 1) for i in range(5)] + [load(f"r{i}", 1, 2) for i in range(4)]
    assert better(loads, "l0", 2) is None


def test_balanced_peers_stay() -> None:
    loads = [load("a", 0, 2), load("b", 2, 4), load("c", 0, 2), load("d", 2, 4)]
    assert better(loads, "a", 4) is None


def test_told_to_move_a_peer_goes_elsewhere_if_it_may() -> None:
    loads = [load("a", 0, 2), load("b", 2, 4), load("c", 0, 2), load("d", 2, 4)]
    assert better(loads, "a", 4, worth_moving=ANYWHERE) == Span(2, 4)


def test_a_peer_that_is_not_announced_stays() -> None:
    assert better([load("a", 0, 2)], "me", 4) is None
