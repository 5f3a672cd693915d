"""Well-formed adapters that make the model worse: the tuning split says so, whoever sent them."""

from __future__ import annotations

from seshu_swarm.adapters.controls import noise_control
from seshu_swarm.bench.rounds.world import World
from tests.attacks.forging import times
from tests.attacks.sieges import HONEST, Siege


def test_a_flipped_adapter_and_noise_are_refused_and_hide_nobody(
    siege: Siege, world: World
) -> None:
    siege.hand_in("flipped", times(world.honest["ta"], -1.0), language="ta")
    siege.hand_in("noise", noise_control(world.honest["bn"], seed=9), language="bn")
    ended = siege.hold()
    assert {ended.names["flipped"], ended.names["noise"]} <= {"HARMFUL", "NO_GAIN"}
    assert {name: ended.names[name] for name in HONEST} == HONEST and ended.verdict.accepted
