"""The books of a bench of the pipeline, on events whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.links.config import LinksConfig
from seshu_swarm.bench.pipeline import bench, churn, links, throughput
from seshu_swarm.bench.pipeline.churn import Told
from seshu_swarm.bench.pipeline.heard import Audit, Heard, Meter, Step, mean_loss, seconds_between
from seshu_swarm.bench.pipeline.singles import Single
from seshu_swarm.bench.pipeline.sizes import Sizes
from seshu_swarm.coordinator.conducting.plan import cut
from seshu_swarm.errors import UsageError

METER = {
    "sent_bytes": 0,
    "received_bytes": 0,
    "serialise_seconds": 0.0,
    "network_seconds": 0.0,
    "compute_seconds": 0.0,
    "wait_seconds": 0.0,
    "own_seconds": 0.0,
}


def trained(step: int, numbers: list[int], **facts: Any) -> dict[str, Any]:
    told = {"event": "trained-step", "time": float(step), "step": step, "loss": 1.0 / step}
    return {**told, "numbers": numbers, **METER, **facts}


def counted(
    member: str, step: int, numbers: list[int], members: Mapping[str, int], *, round_: int = 7
) -> dict[str, Any]:
    return {
        "event": "counted",
        "group": 0,
        "member": member,
        "version": [step, round_],
        "claim": {"trainer": numbers} if numbers else {},
        "members": dict(members),
    }


def audit_of(*events: dict[str, Any]) -> Audit:
    heard = Heard()
    for event in (trained(1, [0, 1, 2]), *events):
        heard.hear("somebody", event)
    return heard.audit(1, [1])


def test_every_id_once_is_nothing_amiss() -> None:
    both = {"a": 1, "b": 2}
    found = audit_of(counted("a", 1, [1], both), counted("b", 1, [0, 2], both))
    assert found == Audit(lost=0, doubled=0, unheard=0, counted=3)


@pytest.mark.parametrize(
    ("first", "second", "lost", "doubled"),
    [
        ([1], [0], 1, 0),  # nobody has 2
        ([1, 0], [0, 2], 0, 1),  # both have 0
        ([1], [0, 2, 9], 0, 1),  # 9 is of another step
        ([], [], 3, 0),
    ],
)
def test_what_is_amiss_is_counted(
    first: list[int], second: list[int], lost: int, doubled: int
) -> None:
    both = {"a": len(first), "b": len(second)}
    found = audit_of(counted("a", 1, first, both), counted("b", 1, second, both))
    assert (found.lost, found.doubled) == (lost, doubled)


def test_of_a_killed_member_the_others_know_how_many_it_had() -> None:
    both = {"a": 1, "b": 2}
    assert audit_of(counted("a", 1, [1], both)) == Audit(0, 0, 0, 3)
    assert audit_of(counted("a", 1, [1], {"a": 1, "b": 1})).lost == 1
    assert audit_of(counted("a", 1, [1], {"a": 1, "b": 3})).doubled == 1


def test_an_average_that_was_made_again_counts_once() -> None:
    early = counted("a", 1, [0, 1, 2], {"a": 3}, round_=7)
    late = counted("b", 1, [0, 1, 2], {"b": 3}, round_=8)
    assert audit_of(early, late) == Audit(0, 0, 0, 3)


def test_a_group_that_nobody_tells_of_is_named() -> None:
    assert audit_of() == Audit(lost=0, doubled=0, unheard=1, counted=0)


def test_digests_are_compared_at_one_step_of_one_group() -> None:
    heard = Heard()
    for member, group, step, digest in [
        ("a", 0, 10, "x"),
        ("b", 0, 10, "x"),
        ("a", 0, 20, "y"),
        ("b", 0, 20, "z"),
        ("c", 1, 10, "w"),
    ]:
        told = {"group": group, "member": member, "version": [step, 1], "digest": digest}
        heard.hear(member, {"event": "digest", **told})
    assert heard.digests() == {(0, 10): {"x"}, (0, 20): {"y", "z"}}


def steps_of(losses: list[float], *, seconds: float = 1.0, **sums: float) -> dict[int, Step]:
    """From step 1; the meter grows by `sums` with each."""
    return {
        n: Step(n, n * seconds, loss, (n,), Meter(**{k: v * n for k, v in sums.items()}))
        for n, loss in enumerate(losses, start=1)
    }


def test_losses_and_seconds_of_steps() -> None:
    steps = steps_of([4.0, 3.0, 2.0, 1.0], seconds=0.5)
    assert mean_loss(steps, 3, count=2) == 2.5
    assert mean_loss(steps, 2) == 3.5
    assert seconds_between(steps, 1, 4) == 1.5
    assert math.isnan(seconds_between(steps, 1, 9))


def test_speed_and_bytes_of_a_pipeline() -> None:
    """Two microbatches of 2 x 4 tokens a step, half a second each step."""
    sizes = Sizes(d_model=16, num_microbatches=2, batch_size=2, length=5)
    each_token = 4 * 2 * 2 * 16  # two stages, to and from, forward and backward, two bytes a number
    steps = steps_of(
        [1.0] * 4,
        seconds=0.5,
        sent_bytes=16 * each_token / 2,
        received_bytes=16 * each_token / 2,
        compute_seconds=0.6,
        own_seconds=0.1,
    )
    found = throughput.results_of(sizes, steps, 2, 4)
    assert found["throughput_pipeline"] == pytest.approx(32)
    assert found["throughput_busy"] == pytest.approx(1.4)
    assert found["throughput_compute_seconds"] == pytest.approx(0.3)
    assert found["bytes_per_token_per_boundary"] == pytest.approx(2 * 2 * 16)
    assert found["bytes_per_token_per_boundary_by_d_model"] == pytest.approx(4)


def test_processes_alone_are_measured_from_their_first_microbatch_on() -> None:
    events: list[dict[str, Any]] = [
        {"event": "microbatch", "time": 100 + 2.0 * n, "cpu_seconds": 30 + 1.0 * n}
        for n in (1, 2, 3)
    ]
    found = Single.of([*events, {"event": "step", "step": 1, "loss": 4.0}], tokens=10)
    assert (found.rate, found.cpu_seconds, found.losses) == (5.0, 0.1, {1: 4.0})
    assert math.isnan(Single.of(events[:1], 10).rate)
    assert math.isnan(Single.of([], 10).rate)


def test_the_floor_is_that_of_the_busiest_line() -> None:
    second = LinksConfig().up_bits_per_second / 8  # bytes of one second
    sums = {"sent_bytes": second, "received_bytes": 3 * second}
    found = links.results_of(Sizes(), steps_of([1.0] * 3, seconds=6.0, **sums), 1, 3)
    assert found["links_floor_seconds"] == pytest.approx(1.5)  # a stage's half of what came back
    assert found["links_share_of_floor"] == pytest.approx(0.25)
    assert found["links_goodput_bits_per_second"] == pytest.approx(8 * second / 6)


@pytest.mark.parametrize(
    ("floor", "computing", "word"),
    [(9.0, 5.0, "half of its bytes"), (5.0, 9.0, "replicas"), (5.0, 5.0, "under way")],
)
def test_what_would_help_most_is_what_bounds_a_step(
    floor: float, computing: float, word: str
) -> None:
    results: dict[str, float | bool] = {
        "links_floor_seconds": floor,
        "links_compute_seconds_per_stage": computing,
        "links_step_seconds": 10.0,
    }
    assert word in links.would_help_most(results)


def test_churn_is_held_against_the_same_steps_undisturbed() -> None:
    books = Audit(lost=0, doubled=0, unheard=0, counted=9)
    slow = Told(steps_of([3.0, 2.0, 1.5, 1.0], seconds=2.0), books, kills=1)
    fast = Told(steps_of([3.0, 2.0, 1.5, 1.5, 9.0], seconds=1.0), books)
    found = churn.results_of(slow, fast, 4)
    assert found["churn_throughput_share"] == 0.5
    assert found["churn_max_loss_difference"] == 0.5
    assert found["churn_final_loss_change"] == pytest.approx(7.5 / 8 - 1)


def test_stages_are_cut_as_the_coordinator_cuts_them() -> None:
    for num_blocks in (2, 5, 8):
        for num_stages in (1, 2):
            sizes = Sizes(num_blocks=num_blocks, num_stages=num_stages)
            assert sizes.bounds == cut(num_blocks, num_stages)
    assert Sizes(num_blocks=5).spans == ("0:2", "2:5")


def test_the_settings_win_over_a_section() -> None:
    settings = BenchConfig(name="pipeline", d_model=32, microbatches=3)
    sizes = Sizes.of(settings, d_model=128, num_microbatches=2, wire_type="float32")
    assert (sizes.d_model, sizes.num_microbatches, sizes.num_blocks) == (32, 3, 8)
    assert sizes.wire_type == "float32"


def test_a_section_that_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match="moon"):
        bench.run(BenchConfig(name="pipeline", only=("moon",)))
    with pytest.raises(UsageError, match="microbatches"):
        BenchConfig(name="pipeline", microbatches=0)
