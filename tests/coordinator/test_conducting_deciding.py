"""What becomes of a plan's checkpoints: real weights, real hidden sets, one reading of the gate at most."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from seshu_swarm import checkpoints, packages
from seshu_swarm.coordinator.conducting.decided import FACT
from seshu_swarm.coordinator.conducting.deciding import Decider, StoppedError
from seshu_swarm.coordinator.conducting.plan import open_plan
from seshu_swarm.coordinator.conducting.stored import MOMENTS, STEP, StoredStates, group_file
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.pretraining.training import (
    Earlier,
    PretrainSettings,
    TrainingText,
    pretrain,
)
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.lineage import Kind
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.upkeep.gating import subject_of
from seshu_swarm.errors import RoundError
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.training.schedule import Schedule
from tests.coordinator.runs import LANGUAGES, Run, opened

torch.set_num_threads(1)

NUM_STEPS = 300
Tensors = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return opened(tmp_path_factory.mktemp("fresh") / "run", steps=0)


@pytest.fixture(scope="module")
def trained(fresh: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Tensors]:
    """The weights after 60 and after 120 steps of ordinary training on the run's text."""
    found: dict[int, Tensors] = {}
    parent = fresh.folder.package(fresh.head)
    folder = tmp_path_factory.mktemp("trained")
    text = TrainingText({language: fresh.text(language) for language in LANGUAGES})
    for steps in (60, 120):
        pretrain(
            checkpoints.read_shape(parent),
            text,
            folder / str(steps),
            settings=PretrainSettings(
                length=128, max_steps=60, seed=steps, schedule=Schedule(learning_rate=0.01)
            ),
            earlier=Earlier(parent),
        )
        parent = folder / str(steps)
        found[steps] = checkpoints.load_tensors(parent)
    return found


class Deciding:
    """A copy of the run with an open plan of two stages."""

    def __init__(self, run: Run) -> None:
        self.run, self.base = run, run.head
        settings = RunConfig(
            state_dir=str(run.folder.path), stages=2, train_steps=NUM_STEPS, gate_readings=10
        )
        record = open_plan(run.folder, run.ledger, settings)
        assert record is not None
        self.record: TrainingRecord = record
        folder = run.folder.training_of(record.plan)
        self.stored = StoredStates(folder, record, run.folder.package(record.base))

    @property
    def decider(self) -> Decider:
        """As a coordinator makes one when it starts."""
        return Decider(self.run.folder, self.run.ledger, self.record, self.stored)

    def keep(self, step: int, weights: Tensors) -> None:
        arriving = self.stored.begin(step)
        for group in range(self.stored.num_groups):
            found = {name: weights[name].contiguous() for name in self.stored.sizes(group)}
            zeros = {f"{m}/{n}": torch.zeros_like(t) for n, t in found.items() for m in MOMENTS}
            tensors = found | zeros | {STEP: torch.tensor(step)}
            safetensors.torch.save_file(tensors, group_file(arriving, group))
        self.stored.finish(step, self.decider.about(step, 1_000 * step, [(1, 5.5), (step, 2.5)]))

    @property
    def num_readings(self) -> int:
        gate = HoldOuts(self.run.folder, self.run.ledger.database).in_use(Role.GATE)
        return Readings(self.run.ledger.database).count(gate.name)


@pytest.fixture
def deciding(fresh: Run, tmp_path: Path) -> Deciding:
    return Deciding(fresh.copy(tmp_path / "run"))


def test_the_first_checkpoint_of_a_base_by_chance_needs_no_reading(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[60])
    found = deciding.decider.decide(60)
    assert (found.state, found.revision) == ("published", deciding.run.head)
    assert deciding.num_readings == 0
    head = deciding.run.lineage.head()
    assert head is not None and (head.kind, head.parent) == (Kind.PRETRAINING, deciding.base)
    package = deciding.run.folder.package(found.revision)
    packages.verify(package, found.revision)
    assert all(torch.equal(t, trained[60][n]) for n, t in checkpoints.load_tensors(package).items())
    about = packages.read_manifest(package).about
    assert about["method"] == "pipeline" and about["parent"] == deciding.base
    card = (package / checkpoints.CARD).read_text()
    assert "better than random weights" in card and "| 60 | 2.500 |" in card


def test_a_better_one_meets_the_gate_once_however_often_it_is_killed(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[60])
    deciding.decider.decide(60)
    deciding.keep(120, trained[120])
    first = deciding.decider.decide(120)
    assert first.state == "published", first
    assert "gate-1, reading 1" in first.reason
    # The note of it was never written: the next coordinator decides again, and finds the head.
    kept = deciding.run.ledger.fact(FACT)
    deciding.run.ledger.set_fact(FACT, kept | {"decided": kept["decided"][:1]})
    again = deciding.decider.decide(120)
    assert (again.state, again.revision) == ("published", first.revision)
    assert deciding.num_readings == 1
    assert [one.revision for one in deciding.run.lineage.all()] == [
        deciding.base,
        deciding.decider.decided()[0].revision,
        first.revision,
    ]


def test_what_is_not_better_on_the_tuning_set_costs_no_reading(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[120])
    deciding.decider.decide(60)
    head = deciding.run.head
    deciding.keep(120, trained[60])
    found = deciding.decider.decide(120)
    assert found.state == "passed over" and "not better on the tuning set" in found.reason
    assert (deciding.run.head, deciding.num_readings) == (head, 0)
    # In mid-plan it is not kept; the last one is, by name.
    assert found.revision == ""
    deciding.keep(NUM_STEPS, trained[60])
    last = deciding.decider.decide(NUM_STEPS)
    assert last.state == "passed over"
    assert deciding.run.folder.package(last.revision).is_dir()


def test_a_small_gain_waits_for_the_last_checkpoint(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[60])
    deciding.decider.decide(60)
    # A tenth of the way.
    near = {n: t + 0.1 * (trained[120][n] - t) for n, t in trained[60].items()}
    deciding.keep(120, near)
    found = deciding.decider.decide(120)
    assert "less than 5%" in found.reason, found
    assert deciding.num_readings == 0


def test_the_last_readings_are_left_to_the_last_checkpoint_and_to_rounds(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[60])
    deciding.decider.decide(60)
    for number in range(7):
        Readings(deciding.run.ledger.database).note("gate-1", f"something {number}")
    deciding.keep(120, trained[120])
    found = deciding.decider.decide(120)
    assert found.state == "passed over" and "last 3 readings" in found.reason
    deciding.run.ledger.set_fact("gate_readings", 10)
    deciding.keep(NUM_STEPS, trained[120])
    assert deciding.decider.decide(NUM_STEPS).state == "published"
    assert deciding.num_readings == 8


def test_a_checkpoint_that_the_gate_refuses_is_kept_and_named(
    deciding: Deciding, trained: dict[int, Tensors], capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights of fewer steps than the head's, sent to the gate past the tuning set."""
    deciding.keep(60, trained[120])
    deciding.decider.decide(60)
    head = deciding.run.head
    sets = HoldOuts(deciding.run.folder, deciding.run.ledger.database)
    decider = deciding.decider
    head_revision = deciding.run.lineage.head()
    assert head_revision is not None
    deciding.keep(120, trained[60])
    revision = decider._make(120, deciding.stored.about(120))
    found = decider._gate(120, head_revision, revision)
    assert (found.state, found.revision) == ("failed", revision)
    assert deciding.run.head == head and deciding.run.folder.package(revision).is_dir()
    assert "not passed" in (deciding.run.folder.package(revision) / checkpoints.CARD).read_text()
    assert sets.in_use(Role.GATE).name == "gate-1"


def test_states_that_make_no_checkpoint_are_named_and_training_goes_on(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[60])
    path = group_file(deciding.stored._folder / "60", 1)
    broken = safetensors.torch.load_file(path)
    first = min(deciding.stored.sizes(1))
    broken[first][...] = float("inf")
    safetensors.torch.save_file(broken, path)
    found = deciding.decider.decide(60)
    assert (found.state, found.revision) == ("broken", "")
    assert deciding.run.head == deciding.base


def test_without_a_gate_set_nothing_is_published(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[60])
    sets = HoldOuts(deciding.run.folder, deciding.run.ledger.database)
    while True:
        try:
            sets.retire(sets.in_use(Role.GATE).name)
        except RoundError:
            break
    assert deciding.decider.decide(60).state == "broken"
    assert deciding.run.head == deciding.base


def test_a_head_that_moved_meanwhile_is_not_overtaken(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[60])
    other = deciding.run.folder.packages / "other"
    shutil.copytree(deciding.run.folder.package(deciding.base), other)
    revision = packages.seal(
        other, "checkpoint", packages.read_manifest(other).files, {"num_steps": 1}
    )
    packages.publish_folder(other, deciding.run.folder.package(revision))
    deciding.run.lineage.add(revision, parent=deciding.base, kind=Kind.PRETRAINING)
    found = deciding.decider.decide(60)
    assert found.state == "passed over" and "meanwhile" in found.reason
    assert deciding.run.head == revision


def test_a_reading_that_was_paid_before_a_kill_is_read(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[60])
    deciding.decider.decide(60)
    readings = Readings(deciding.run.ledger.database)
    for number in range(6):
        readings.note("gate-1", f"something {number}")
    deciding.keep(120, trained[120])
    revision = deciding.decider._make(120, deciding.stored.about(120))
    readings.note("gate-1", subject_of(revision, base=deciding.run.head))
    assert deciding.decider.decide(120).state == "published"
    assert deciding.num_readings == 7


def test_a_decision_is_interrupted_while_it_scores_and_taken_up(
    deciding: Deciding, trained: dict[int, Tensors]
) -> None:
    deciding.keep(60, trained[60])
    stopped = deciding.decider
    stopped.stop()
    with pytest.raises(StoppedError):
        stopped.decide(60)
    assert deciding.decider.decided() == []
    assert deciding.decider.decide(60).state == "published"
