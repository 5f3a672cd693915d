"""A model is trained through real processes, and whatever fails on the way, every microbatch counts once.

Of the second run each test takes something away, and leaves as many processes as it found.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.swarms import Fault, Processes, RoleProcess, inject, wake
from tests.trainings import Accounts, TrainedRun, name_of, name_of_trainer, open_random

pytestmark = pytest.mark.swarm

NUM_STEPS = 24
# Longer than a member may be silent.
ASLEEP_SECONDS = 8.0


class Ended:
    """A whole training by one trainer and two replicas of each stage, and what it left."""

    def __init__(self, run: TrainedRun) -> None:
        for stage in (0, 0, 1, 1):
            run.replica(stage)
        trainer = run.trainer()
        self.trainer_code = trainer.wait(seconds=120)
        self.losses = [e["loss"] for e in trainer.events if e["event"] == "progress"]
        run.coordinator.wait_for("training-over", seconds=30)
        self.told = [replicas_told(stage) for stage in run.replicas]
        self.accounts = run.accounts()
        self.names = [[name_of(one) for one in stage] for stage in run.replicas]


def replicas_told(stage: list[RoleProcess]) -> list[tuple[int, str]]:
    """What each replica says of its last weights: how many steps made them, and their digest."""
    told = [
        one.wait_for("stage", seconds=10, matching=lambda e: e.get("is_over", False))
        for one in stage
    ]
    return [(one["step"], one["digest"]) for one in told]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("whole")
    run = open_random(folder / "run")
    with Processes(folder / "swarm") as swarm:
        return Ended(TrainedRun(run, swarm, "--train-steps", str(NUM_STEPS)))


def test_a_whole_training_ends_and_the_loss_falls(ended: Ended) -> None:
    assert ended.trainer_code == 0
    assert ended.accounts.plan.state == "over"
    assert ended.accounts.made == NUM_STEPS
    assert ended.losses[0] > 5.0, "random weights: near the logarithm of 256"
    assert ended.losses[-1] < ended.losses[0] - 1.0


def test_every_microbatch_of_every_step_is_counted_once_in_every_group(ended: Ended) -> None:
    ended.accounts.check()
    counted = ended.accounts.counted()
    [trainer] = {trainer for claims in counted[0] for ids in claims.values() for trainer, _ in ids}
    whole = {(trainer, number) for number in range(NUM_STEPS * 4)}
    for group in range(3):
        assert {i for step in counted for ids in step[group].values() for i in ids} == whole
    for stage, names in enumerate(ended.names):
        shares = ended.accounts.by_member(stage)
        assert set(shares) <= set(names)
        assert sum(shares.values()) == NUM_STEPS * 4


def test_replicas_of_one_stage_end_with_equal_weights(ended: Ended) -> None:
    for told in ended.told:
        assert len(told) == 2 and len(set(told)) == 1
        assert told[0][0] == NUM_STEPS


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedRun]:
    """Two replicas of each stage and two trainers, at work for as long as the tests need them."""
    folder = tmp_path_factory.mktemp("storm")
    run = open_random(folder / "run")
    flags = ("--train-steps", "100000", "--checkpoint-steps", "10", "--port", str(port()))
    with Processes(folder / "swarm") as swarm:
        trained = TrainedRun(run, swarm, *flags)
        for stage in (0, 0, 1, 1):
            trained.replica(stage)
        for _ in range(2):
            trained.trainer()
        assert len(names_of(trained)) == 6
        yield trained


def names_of(run: TrainedRun) -> set[str]:
    """Of all members that should be there."""
    replicas = {name_of(one) for stage in run.replicas for one in stage}
    return replicas | {name_of_trainer(one) for one in run.trainers}


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def exact(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test of the storm."""
    yield
    if "storm" in request.fixturenames:
        request.getfixturevalue("storm").check()


def test_a_replica_that_sleeps_is_done_without_and_counts_again(storm: TrainedRun) -> None:
    storm.until_made(3)
    sleeper, twin = storm.replicas[0]
    name = name_of(sleeper)
    inject(sleeper, Fault.PAUSE)
    time.sleep(ASLEEP_SECONDS)
    before = storm.accounts().made
    after = storm.until_made(2)
    assert after.since(before + 1, 0) == {name_of(twin)}
    wake(sleeper)
    storm.until_counted_by(name, 0)


def test_a_killed_replica_is_done_without_and_one_that_joins_counts(storm: TrainedRun) -> None:
    storm.until_made(2)
    victim, _ = storm.replicas[1]
    inject(victim, Fault.KILL)
    storm.replicas[1].remove(victim)
    storm.until_made(3)
    began = time.monotonic()
    name = name_of(storm.replica(1))
    joined = storm.until_counted_by(name, 1)
    assert time.monotonic() - began < 60
    first = next(step for step, c in enumerate(joined.counted()) if name in c[1])
    assert first > 0, "it had the weights of others"


def test_a_killed_trainer_takes_its_microbatches_out_of_the_step(storm: TrainedRun) -> None:
    storm.until_made(2)
    victim, other = storm.trainers
    inject(victim, Fault.KILL)
    storm.trainers.remove(victim)
    before = storm.accounts().made
    alone = storm.until_made(4)
    assert alone.since(before + 2, 2) == {name_of_trainer(other)}
    name = name_of_trainer(storm.trainer())
    storm.until_counted_by(name, 2)


def test_a_killed_coordinator_goes_on_with_the_plan(storm: TrainedRun) -> None:
    before = storm.until_made(2)
    inject(storm.coordinator, Fault.KILL)
    members = names_of(storm)
    again = storm.conduct()
    again.ready(seconds=60)
    begun = storm.accounts()
    assert begun.plan == before.plan
    assert begun.made >= before.made

    def all_count(now: Accounts) -> bool:
        counting = set.union(*(now.since(begun.made, group) for group in range(3)))
        return counting == members

    storm.until(all_count, "all counting again", seconds=60)


def test_a_stage_that_is_lost_whole_goes_on_from_stored_weights(storm: TrainedRun) -> None:
    storm.coordinator.wait_for("checkpoint", seconds=60)
    before = storm.until_made(3).made
    for victim in storm.replicas[0]:
        inject(victim, Fault.KILL)
    storm.replicas[0].clear()
    names = {name_of(storm.replica(0)), name_of(storm.replica(0))}
    said = storm.coordinator.wait_for("restored", seconds=60)
    assert said["group"] == 0
    assert 0 < said["step"] <= before + 1
    assert "goes on from those of step" in said["text"]
    begun = storm.accounts().made
    storm.until(lambda now: now.since(begun, 0) == names, "both new replicas", seconds=60)
    storm.until_made(3)
