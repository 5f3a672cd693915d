"""Duplicates, near-duplicates and ten Sybils: one work counts once, for who handed it in first."""

from __future__ import annotations

import pytest

from seshu_swarm.adapters.controls import duplicate_control
from seshu_swarm.adapters.sketch import cosine, sketch_of
from seshu_swarm.bench.rounds.world import World
from tests.attacks.forging import blurred, times
from tests.attacks.sieges import HONEST, Siege


def test_another_digest_and_other_factors_are_the_same_work(siege: Siege, world: World) -> None:
    siege.hand_in("copy", duplicate_control(world.honest["hi"]), language="ta")
    siege.hand_in("thrice", times(world.honest["hi"], 3.0))
    siege.hand_in("near copy", blurred(world.honest["hi"], 0.05, 1))
    assert siege.screened() == dict.fromkeys(("copy", "thrice", "near copy"), "DUPLICATE")


def test_ten_identities_hold_one_place_or_none(siege: Siege, world: World) -> None:
    own = times(world.honest["bn"], -1.0)  # work of their own, if of no use
    for number in range(10):
        siege.hand_in(f"copied {number}", blurred(world.honest["ta"], 0.08, number))
        siege.hand_in(f"own {number}", blurred(own, 0.08, number))
    fallen = [f"copied {number}" for number in range(10)] + [f"own {n}" for n in range(1, 10)]
    assert siege.screened() == dict.fromkeys(fallen, "DUPLICATE")


def test_an_owner_who_hands_in_again_has_one_share(siege: Siege, world: World) -> None:
    other = times(world.honest["bn"], -1.0)
    siege.hand_in("newer", other, owner="hi", language="hi")
    assert siege.screened() == {"hi": "SUPERSEDED"}
    assert set(HONEST) - {"hi"} <= set(siege.waiting())


@pytest.mark.parametrize(("share", "is_seen"), [(0.1, True), (0.2, True), (0.5, False)])
def test_how_much_noise_hides_a_copy(world: World, share: float, is_seen: bool) -> None:
    """Measured, both ways: half of its own size of noise makes it another adapter, and a worse one."""
    honest = world.honest["hi"]
    found = cosine(sketch_of(honest), sketch_of(blurred(honest, share, 3)))
    assert (found > 0.95) is is_seen


def test_copies_that_noise_hides_take_more_than_one_share(siege: Siege, world: World) -> None:
    """Not caught: each is honest work made a little worse, and looks like a donor of its own."""
    for number in range(4):
        hidden = blurred(world.honest["hi"], 0.5, number + 1)
        siege.hand_in(f"hidden {number}", hidden, owner=f"identity {number}")
    ended = siege.hold()
    merged = [name for name in ended.members if name.startswith("hidden")]
    assert 1 <= len(merged) < 4
    # What it costs is a share of the others' work; the model is still better than its base.
    assert {name: ended.names[name] for name in HONEST} == HONEST and ended.verdict.accepted


def test_honest_donors_are_far_from_each_other(world: World) -> None:
    sketches = [sketch_of(adapter) for adapter in world.honest.values()]
    found = [cosine(a, b) for i, a in enumerate(sketches) for b in sketches[:i]]
    assert max(found) < 0.5
