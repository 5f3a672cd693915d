"""The cheapest chain, against every chain there is."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.client.chain.routing import (
    HOP_SECONDS,
    UNKNOWN_STEP_SECONDS,
    Hop,
    Offer,
    choose_chain,
    cost_seconds,
)
from seshu_swarm.errors import PeerLostError
from seshu_swarm.spans import Span

WHOLE = Span(0, 4)


def offer(peer: str, start: int, end: int, seconds: float = 0.01, sessions: int = 0) -> Offer:
    return Offer(peer, Span(start, end), seconds, sessions)


def test_cost_is_the_share_of_the_step_its_queue_and_one_hop() -> None:
    whole = offer("a", 0, 4, 0.08, 2)
    assert cost_seconds(whole, Span(0, 4)) == pytest.approx(HOP_SECONDS + 0.08 * 3)
    assert cost_seconds(whole, Span(3, 4)) == pytest.approx(HOP_SECONDS + 0.02 * 3)
    unmeasured = offer("a", 0, 4, 0.0)
    assert cost_seconds(unmeasured, Span(0, 4)) == HOP_SECONDS + UNKNOWN_STEP_SECONDS


def test_fewer_hops_win_while_peers_are_equal() -> None:
    offers = [offer("a", 0, 2, 0.005), offer("b", 2, 4, 0.005), offer("c", 0, 4, 0.01)]
    assert choose_chain(offers, WHOLE) == (Hop("c", WHOLE),)
    assert [h.peer_id for h in choose_chain(offers, WHOLE, {"c"})] == ["a", "b"]


def test_a_busy_or_slow_peer_is_passed_by() -> None:
    two = [offer("a", 0, 2, 0.005), offer("b", 2, 4, 0.005)]
    for other in (offer("c", 0, 4, 0.01, sessions=3), offer("c", 0, 4, 0.05)):
        assert [h.peer_id for h in choose_chain([*two, other], WHOLE)] == ["a", "b"]


def test_overlapping_spans_are_entered_and_left_in_the_middle() -> None:
    offers = [offer("a", 0, 3), offer("b", 1, 4)]
    chain = choose_chain(offers, WHOLE)
    assert [h.peer_id for h in chain] == ["a", "b"]
    assert [h.span for h in chain] == [Span(0, 3), Span(3, 4)]
    assert choose_chain(offers, Span(1, 3)) == (Hop("a", Span(1, 3)),)


def test_ties_go_to_the_smaller_peer_id_in_any_order() -> None:
    offers = [offer(peer, 0, 4) for peer in "cab"]
    for shuffled in permutations(offers):
        assert choose_chain(shuffled, WHOLE) == (Hop("a", WHOLE),)


def test_the_first_uncovered_block_is_named_with_the_way_out() -> None:
    with pytest.raises(PeerLostError, match=r"no reachable peer hosts block 2.*peer host --join"):
        choose_chain([offer("a", 0, 2), offer("b", 3, 4)], WHOLE)
    with pytest.raises(PeerLostError, match="block 0"):
        choose_chain([offer("a", 0, 4)], WHOLE, {"a"})


def all_chains(offers: list[Offer], at: int, end: int) -> list[tuple[float, tuple[Hop, ...]]]:
    if at == end:
        return [(0.0, ())]
    found = []
    for each in offers:
        if at in each.span:
            span = Span(at, min(each.span.end, end))
            for cost, rest in all_chains(offers, span.end, end):
                found.append((cost_seconds(each, span) + cost, (Hop(each.peer_id, span), *rest)))
    return found


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_no_chain_is_cheaper_than_the_chosen_one(seed: int, num_offers: int) -> None:
    rng = random.Random(seed)
    offers = []
    for number in range(num_offers):
        start = rng.randrange(5)
        end = rng.randint(start + 1, 5)
        offers.append(offer(f"p{number}", start, end, rng.random() / 50, rng.randrange(4)))
    wanted = Span(0, 5)
    chains = all_chains(offers, 0, 5)
    if not chains:
        with pytest.raises(PeerLostError):
            choose_chain(offers, wanted)
        return
    spans = {o.peer_id: o for o in offers}
    chosen = choose_chain(offers, wanted)
    assert [h.span.start for h in chosen] == [0, *(h.span.end for h in chosen)][:-1]
    assert chosen[-1].span.end == 5
    cost = sum(cost_seconds(spans[hop.peer_id], hop.span) for hop in chosen)
    assert cost == pytest.approx(min(c for c, _ in chains))
