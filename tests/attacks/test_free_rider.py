"""A share for no work: nothing, next to nothing, an old adapter, or what the last round merged."""

from __future__ import annotations

from seshu_swarm.adapters.controls import duplicate_control, noise_control, null_control
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.bench.rounds.world import World
from tests.attacks.forging import blurred, mean_of, times
from tests.attacks.sieges import Siege


def test_no_work_has_a_name(siege: Siege, world: World, earlier: dict[str, Adapter]) -> None:
    old = earlier["earlier ta"]
    siege.hand_in("zero", null_control(old))
    siege.hand_in("next to nothing", times(noise_control(old, seed=2), 1e-4))
    siege.hand_in("old", duplicate_control(old), language="ta")
    siege.hand_in("old and blurred", blurred(old, 0.08, 4), language="ta")
    siege.hand_in("base copy", times(mean_of(*earlier.values()), 2.0))
    assert siege.screened() == {
        "zero": "UNTRAINED",
        "next to nothing": "FREE_RIDER",
        **dict.fromkeys(("old", "old and blurred", "base copy"), "COPY_OF_EARLIER"),
    }
