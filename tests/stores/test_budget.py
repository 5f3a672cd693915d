"""How much strangers may leave with a holder: of one peer, of all, and for how long it counts."""

from __future__ import annotations

import pytest

from seshu_swarm.errors import RefusalError
from seshu_swarm.stores.budget import DAY_SECONDS, Budget
from seshu_swarm.stores.holder import MAX_BYTES_OF_ALL, MAX_BYTES_PER_PEER

ADAPTER_BYTES = 12_000_000


def budget(peer_bytes: int = 100, total_bytes: int = 250) -> Budget:
    return Budget(peer_bytes=peer_bytes, total_bytes=total_bytes)


def test_a_hundred_adapters_over_ten_days_are_within_an_honest_donors_budget() -> None:
    real = Budget(peer_bytes=MAX_BYTES_PER_PEER, total_bytes=MAX_BYTES_OF_ALL)
    for number in range(100):
        real.charge("donor", ADAPTER_BYTES, now=number * DAY_SECONDS / 10)


def test_what_is_a_day_old_is_forgotten_and_no_sooner() -> None:
    one = budget()
    one.charge("a", 100, now=5.0)
    with pytest.raises(RefusalError, match="TOO_LARGE"):
        one.charge("a", 1, now=5.0 + DAY_SECONDS - 1)
    one.charge("a", 100, now=5.0 + DAY_SECONDS)


def test_a_flood_of_identities_is_bounded_together() -> None:
    one, taken = budget(), 0
    for number in range(1_000):
        try:
            one.charge(f"sybil-{number}", 100, now=float(number))
            taken += 100
        except RefusalError as error:
            assert "of all peers in a day, at most 250" in error.rule
    assert taken == 200


def test_what_did_not_arrive_is_given_back_once() -> None:
    one = budget()
    charge = one.charge("a", 90, now=0.0)
    one.refund(charge, 60)
    one.charge("a", 70, now=1.0)
    with pytest.raises(RefusalError):
        one.charge("a", 1, now=2.0)
    # A charge that is forgotten, or given back whole, owes nothing.
    one.charge("a", 100, now=DAY_SECONDS + 1.0)
    one.refund(charge, 30)
    with pytest.raises(RefusalError):
        one.charge("a", 1, now=DAY_SECONDS + 2.0)


def test_a_refused_charge_counts_nothing() -> None:
    one = budget()
    for _ in range(3):
        with pytest.raises(RefusalError):
            one.charge("a", 101, now=0.0)
    one.charge("a", 100, now=0.0)
    one.charge("b", 100, now=0.0)
    with pytest.raises(RefusalError):
        one.charge("c", 51, now=0.0)
    one.charge("c", 50, now=0.0)
