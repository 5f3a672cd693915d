"""The plan and what is kept of it: settled once, taken up as it was."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import safetensors.torch
import torch

from seshu_swarm import checkpoints
from seshu_swarm.coordinator.conducting.journal import ROUNDS, Entry, Journal
from seshu_swarm.coordinator.conducting.kept import close_plan, drop_open_plan, kept_plan
from seshu_swarm.coordinator.conducting.plan import cut, open_plan
from seshu_swarm.coordinator.conducting.stored import StoredStates, group_file
from seshu_swarm.coordinator.config import PretrainConfig, RunConfig
from seshu_swarm.coordinator.pretraining import command as pretraining
from seshu_swarm.coordinator.showing.training import training_facts
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep import restore
from seshu_swarm.coordinator.upkeep.backup import write_backup
from seshu_swarm.coordinator.upkeep.config import RestoreConfig
from seshu_swarm.errors import ProtocolError, UsageError
from seshu_swarm.pipeline.conductor import Books
from seshu_swarm.pipeline.messages import FIRST, MicrobatchId, Version
from seshu_swarm.records.encoding import from_bytes, to_bytes
from seshu_swarm.records.kinds import TrainingRecord
from tests.coordinator.runs import Run, opened

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose base has random weights, 32 x 2."""
    return opened(tmp_path_factory.mktemp("fresh") / "run", steps=0)


@pytest.fixture
def run(fresh: Run, tmp_path: Path) -> Run:
    return fresh.copy(tmp_path / "run")


def settings(run: Run, **facts: object) -> RunConfig:
    return RunConfig(state_dir=str(run.folder.path), **{"stages": 2} | facts)  # type: ignore[arg-type]


def plan(run: Run, **facts: object) -> TrainingRecord | None:
    return open_plan(run.folder, run.ledger, settings(run, **facts))


@pytest.mark.parametrize(
    ("blocks", "stages", "found"),
    [(8, 2, (0, 4, 8)), (7, 3, (0, 2, 4, 7)), (5, 5, (0, 1, 2, 3, 4, 5)), (24, 1, (0, 24))],
)
def test_stages_are_as_equal_as_can_be(blocks: int, stages: int, found: tuple[int, ...]) -> None:
    assert cut(blocks, stages) == found
    lengths = {b - a for a, b in itertools.pairwise(found)}
    assert max(lengths) - min(lengths) <= 1


def test_more_stages_than_blocks_are_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="--stages 3 of 2 blocks"):
        plan(run, stages=3)


def test_pretrain_of_no_steps_makes_a_base_by_chance(run: Run) -> None:
    """The weights are those of the seed; a second one is refused."""
    tensors = run.tensors(run.head)
    assert all(bool(torch.isfinite(t).all()) for t in tensors.values())
    first = tensors["backbone.layers.0.mixer.in_proj.weight"]
    assert float(first.std()) > 0
    with pytest.raises(UsageError, match="the run has a base"):
        pretraining.run(PretrainConfig(state_dir=str(run.folder.path), max_steps=0))


def test_a_base_by_chance_is_trained_with_the_higher_rate(run: Run) -> None:
    found = plan(run)
    assert found is not None
    assert (found.learning_rate, found.base) == (4e-3, run.head)
    # The record goes over the wire as it is.
    assert from_bytes(to_bytes(found)) == found


def test_a_trained_base_is_not_and_a_rate_that_is_given_counts(tmp_path: Path) -> None:
    trained = opened(tmp_path / "run", steps=1)
    found = plan(trained)
    assert found is not None and found.learning_rate == 1e-3
    other = without_plan(trained, tmp_path)
    found = plan(other, train_learning_rate=0.02)
    assert found is not None and found.learning_rate == 0.02


def without_plan(run: Run, path: Path) -> Run:
    copied = run.copy(path / "other")
    copied.ledger.set_fact("training", None)
    return copied


def test_an_open_plan_goes_on_whatever_is_asked(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    first = plan(run)
    assert plan(run) == first
    assert plan(run, stages=1, train_steps=7) == first
    assert "not used: stages 1, train_steps 7" in capsys.readouterr().out
    assert plan(run, stages=0) is None
    assert kept_plan(run.ledger) == first


def test_a_plan_that_is_over_is_not_made_again_by_the_same_settings(run: Run) -> None:
    first = plan(run)
    assert first is not None
    assert close_plan(run.ledger, first).state == "over"
    assert plan(run) is None
    second = plan(run, train_steps=1_500)
    assert second is not None and second.plan != first.plan
    facts = training_facts(run.ledger)
    assert facts is not None and (facts["plan"], facts["state"]) == (second.plan, "open")


def test_a_restored_run_begins_another_plan(run: Run, tmp_path: Path) -> None:
    """Members may be ahead of the backup, and states are not in it."""
    first = plan(run)
    assert first is not None
    keep(stored(run), 10)
    file, folder = tmp_path / "backup.tar.gz", RunFolder(tmp_path / "restored")
    write_backup(run.folder, file, with_packages=True)
    restore.run(RestoreConfig(file=str(file), state_dir=str(folder.path)))
    assert not folder.training.exists()
    again = Run(folder)
    assert kept_plan(again.ledger) is None
    second = plan(again)
    assert second is not None and second.plan != first.plan
    close_plan(again.ledger, second)
    assert drop_open_plan(again.ledger) is None


def test_the_journal_gives_back_what_was_written_and_new_rounds(run: Run) -> None:
    ids = frozenset({MicrobatchId("t#00000000", 3), MicrobatchId("u#00000000", 9)})
    ledger = Ledger(run.folder.ledger)
    journal = Journal(ledger, "0" * 16, num_groups=3)
    empty, round_ = journal.take_up()
    assert (empty.books, round_) == (Books(-1, frozenset(), False, (FIRST,) * 3), 0)
    entry = Entry(
        Books(5, ids, True, (Version(4, 9), Version(4, 7), Version(4, 4))),
        {"t#00000000": 4, "u#00000000": 10},
        1_234,
        ((1, 5.5), (4, 2.25)),
    )
    journal.write(entry)
    for start in (1, 2):
        again = Journal(Ledger(run.folder.ledger), "0" * 16, num_groups=3).take_up()
        assert again == (entry, start * ROUNDS)
    assert Journal(ledger, "1" * 16, num_groups=3).take_up() == (empty, 0)


def stored(run: Run) -> StoredStates:
    record = plan(run)
    assert record is not None
    folder = run.folder.training_of(record.plan)
    return StoredStates(folder, record, run.folder.package(record.base))


def keep(states: StoredStates, step: int, shift: float = 0.0) -> None:
    """As if members had given their states: those of the base, moved a little."""
    arriving = states.begin(step)
    for group in range(states.num_groups):
        _, base = states.newest(group) if not states.steps() else (0, None)
        base = base or group_file(arriving.parent / "base", group)
        tensors = safetensors.torch.load_file(base)
        moved = {n: t + shift if n in states.sizes(group) else t for n, t in tensors.items()}
        safetensors.torch.save_file(moved, group_file(arriving, group))
        states.check(group_file(arriving, group), group)
    states.finish(step, {"step": step})


def test_stored_states_are_those_of_the_newest_steps(run: Run) -> None:
    states = stored(run)
    step, path = states.newest(2)
    assert step == 0
    base = checkpoints.load_ends(run.folder.package(run.head)).checkpoint_tensors()
    found = safetensors.torch.load_file(path)
    assert all(torch.equal(found[name], tensor) for name, tensor in base.items())
    assert all(float(found[f"exp_avg_sq/{name}"].abs().max()) == 0 for name in base)
    for each in (10, 20, 30):
        keep(states, each, each / 100)
    assert states.steps() == [20, 30]
    assert states.newest(0)[0] == 30
    assert states.about(20) == {"step": 20}
    whole = run.tensors(run.head)
    assert states.tensors(30).keys() == whole.keys()
    for name, tensor in states.tensors(30).items():
        assert torch.equal(tensor, whole[name] + 0.3)


def test_what_arrived_of_a_missed_checkpoint_goes_with_the_next(run: Run) -> None:
    states = stored(run)
    for step in (10, 20, 30):
        (states.begin(step) / "group-0.safetensors").write_bytes(b"half")
    assert len(list(states.begin(40).parent.iterdir())) == 1


@pytest.mark.parametrize("wrong", ["lacks", "extra", "shape", "type", "nan", "cut"])
def test_a_state_that_is_none_is_refused(run: Run, wrong: str) -> None:
    states = stored(run)
    _, base = states.newest(1)
    tensors = safetensors.torch.load_file(base)
    name = min(states.sizes(1))
    match wrong:
        case "lacks":
            del tensors[f"exp_avg/{name}"]
        case "extra":
            tensors["evil"] = torch.zeros(1)
        case "shape":
            tensors[name] = tensors[name][:1].clone()
        case "type":
            tensors[name] = tensors[name].double()
        case "nan":
            tensors[f"exp_avg_sq/{name}"].view(-1)[0] = float("nan")
    path = states.begin(1) / "state"
    data = safetensors.torch.save(tensors)
    path.write_bytes(data[:-8] if wrong == "cut" else data)
    with pytest.raises(ProtocolError):
        states.check(path, 1)


@pytest.mark.parametrize(
    "facts",
    [
        {"stages": -1},
        {"train_steps": 0},
        {"microbatches": 0},
        {"train_length": 1},
        {"train_learning_rate": 1.0},
        {"wire_type": "float16"},
        {"compute_type": "float16"},
        {"checkpoint_steps": 0},
    ],
    ids=str,
)
def test_settings_that_make_no_plan_are_refused(run: Run, facts: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        settings(run, **facts)
