"""An adapter multiplied to outvote the others: it is cut to twice the median norm of the round."""

from __future__ import annotations

import math

from seshu_swarm.adapters.controls import noise_control
from seshu_swarm.adapters.delta import adapter_norm
from seshu_swarm.bench.rounds.world import World
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.admitting import admit
from tests.attacks.forging import times
from tests.attacks.sieges import HONEST, Ended, Siege, difference, shape_of


def test_fifty_times_is_cut_to_the_limit(siege: Siege, world: World) -> None:
    boosted = siege.hand_in("boosted", times(noise_control(world.honest["hi"], seed=1), 50.0))
    read = gather.read_all(
        siege.ledger,
        siege.ledger.round(siege.number),
        rule=gather.ReadRule(shape_of(world), max_rank=64, max_adapters=64),
        folder_of=siege.folder.adapter,
    )
    admitted = admit(siege.ledger, siege.folder, siege.number, read)
    honest = sorted(adapter_norm(adapter) for adapter in world.honest.values())
    # Four adapters: the median is the mean of the second and the third, which are honest.
    assert math.isclose(admitted.max_norm, honest[1] + honest[2], rel_tol=1e-6)
    assert math.isclose(adapter_norm(admitted.adapters[boosted]), admitted.max_norm, rel_tol=1e-9)
    assert adapter_norm(read[boosted]) > 20 * admitted.max_norm


def test_it_is_refused_and_the_honest_three_are_merged_as_without_it(
    siege: Siege, world: World, alone: Ended
) -> None:
    siege.hand_in("boosted", times(noise_control(world.honest["hi"], seed=1), 50.0))
    ended = siege.hold()
    assert ended.names == HONEST | {"boosted": ended.names["boosted"]}
    assert ended.names["boosted"] in ("HARMFUL", "NO_GAIN")
    for comparison in difference(world, ended.revision, alone.revision).values():
        assert comparison.low <= 0 <= comparison.high
