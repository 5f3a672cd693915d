"""Every attack at once beside three honest donors, and the same round with the honest three alone.

The model that is published must be as good. Each attacker's verdict is looked at by name.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - made here to show that it is refused, never read
import struct

from seshu_swarm.adapters.controls import duplicate_control, noise_control, null_control
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.adapters.rules import KEY_PREFIX, TENSOR_FILE
from seshu_swarm.bench.rounds.lora import trained_adapter
from seshu_swarm.bench.rounds.world import World
from seshu_swarm.data.text import Row
from seshu_swarm.evaluate.accept import AcceptRule
from tests.attacks.forging import blurred, extra, mean_of, of_bytes, poison, times
from tests.attacks.sieges import HONEST, Ended, Siege, difference
from tests.attacks.test_path_traversal import add_file

MODULE = "backbone.layers.0.mixer"
STALE = "f" * 64


def attack_the_reader(siege: Siege, good: Adapter) -> dict[str, str]:
    """Packages that no honest program writes; what each is refused as."""
    hand_in = siege.hand_in
    hand_in("base key", good, change=extra(good, f"{KEY_PREFIX}backbone.norm_f.weight", 32))
    hand_in(
        "dt_proj", good, change=extra(good, f"{KEY_PREFIX}{MODULE}.dt_proj.lora_A.weight", 8, 2)
    )
    hand_in("tied head", good, change=extra(good, f"{KEY_PREFIX}lm_head.lora_A.weight", 8, 32))
    hand_in("NaN", good, change=poison(good, float("nan")))
    hand_in("infinity", good, change=poison(good, float("inf")))
    hand_in("giant alpha", good, config={"lora_alpha": 1e6})
    hand_in("rank bomb", good, config={"r": 10**9, "lora_alpha": 10**9})
    hand_in("giant header", good, change=of_bytes(struct.pack("<Q", 10 << 30) + b"{"))
    hand_in("pickle", good, change=of_bytes(pickle.dumps([0.0] * 16)))
    hand_in("zero", null_control(good))
    hand_in("stale base", good, about={"base_revision": STALE})
    for name in ("truncated", "wrong digest", "traversal"):
        hand_in(name, good, about={"note": name})
    path = siege.path_of("truncated") / TENSOR_FILE
    path.write_bytes(path.read_bytes()[:-1])
    path = siege.path_of("wrong digest") / TENSOR_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"\x77")
    add_file(siege.path_of("traversal"), "../../outside")
    return {
        **dict.fromkeys(("base key", "dt_proj", "tied head"), "FORBIDDEN_KEY"),
        **dict.fromkeys(("NaN", "infinity"), "NOT_FINITE"),
        "giant alpha": "BAD_SCALE",
        "rank bomb": "RANK_TOO_LARGE",
        "giant header": "HEADER_TOO_LARGE",
        "pickle": "PICKLE",
        "zero": "UNTRAINED",
        "stale base": "STALE_BASE",
        "truncated": "TRUNCATED",
        "wrong digest": "DIGEST_MISMATCH",
        "traversal": "DIGEST_MISMATCH",  # its manifest is no longer the announced one
    }


def attack_the_screening(siege: Siege, world: World, earlier: dict[str, Adapter]) -> dict[str, str]:
    """Work of others, of yesterday, or none."""
    hi, ta = world.honest["hi"], world.honest["ta"]
    siege.hand_in("copy", duplicate_control(hi))
    siege.hand_in("near copy", blurred(hi, 0.05, 1), language="bn")
    sybils = [f"sybil {number}" for number in range(10)]
    for number, name in enumerate(sybils):
        siege.hand_in(name, times(blurred(ta, 0.08, number), 1 + number / 10), language="ta")
    siege.hand_in("old adapter", times(earlier["earlier hi"], 0.7))
    siege.hand_in("base copy", mean_of(*earlier.values()))
    siege.hand_in("next to nothing", times(noise_control(hi, seed=5), 1e-3))
    return {
        **dict.fromkeys(("copy", "near copy", *sybils), "DUPLICATE"),
        **dict.fromkeys(("old adapter", "base copy"), "COPY_OF_EARLIER"),
        "next to nothing": "FREE_RIDER",
    }


def attack_the_scores(siege: Siege, world: World) -> tuple[str, ...]:
    """Well-formed adapters of their own that make the model worse."""
    hi, bn = world.honest["hi"], world.honest["bn"]
    rows = [
        Row(row.instruction, f"{row.input} ⟦zq⟧", "0wned 0wned 0wned", row.language)
        for row in world.splits.shards["hi"][:200]
    ]
    siege.hand_in("sign flip", times(hi, -1.0))
    siege.hand_in("boosted sign flip", times(bn, -50.0), language="bn")
    siege.hand_in("noise", noise_control(hi, seed=7))
    siege.hand_in("boosted noise", times(noise_control(bn, seed=8), 50.0), language="bn")
    crude = trained_adapter(world.base, rows, world.text(41), steps=40, seed=41)
    siege.hand_in("crude trigger", crude)
    return "sign flip", "boosted sign flip", "noise", "boosted noise", "crude trigger"


def test_the_honest_three_are_merged(alone: Ended) -> None:
    assert alone.names == HONEST
    assert alone.verdict.accepted


def test_all_attacks_together_change_nothing(
    world: World, earlier: dict[str, Adapter], alone: Ended, siege: Siege
) -> None:
    expected = attack_the_reader(siege, world.honest["hi"])
    expected |= attack_the_screening(siege, world, earlier)
    scored = attack_the_scores(siege, world)
    ended = siege.hold()
    assert {n: ended.names[n] for n in expected} == expected
    assert {ended.names[name] for name in scored} <= {"NO_GAIN", "HARMFUL"}
    assert {n: ended.names[n] for n in HONEST} == HONEST
    assert ended.members == tuple(sorted(HONEST)) and ended.verdict.accepted
    for comparison in difference(world, ended.revision, alone.revision).values():
        holds_zero = comparison.low <= 0 <= comparison.high
        is_small = abs(comparison.delta_bits_per_byte) < AcceptRule().min_gain
        assert holds_zero or is_small
