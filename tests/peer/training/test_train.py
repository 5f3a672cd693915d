"""`peer train` as its owner meets it: own text, refusals by exit code, limits, Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm import checkpoints
from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.peer.config import TrainConfig
from seshu_swarm.peer.training import train
from tests.conftest import TinyCheckpoint
from tests.coordinator.small_runs import open_run
from tests.peer.training.plans import plan_of
from tests.swarms import Processes, RoleProcess

SMALL = ("--stages", "2", "--microbatches", "4", "--train-batch-size", "2", "--train-length", "64")


def test_what_is_kept_of_a_step_is_known_before_it_begins(tiny: TinyCheckpoint) -> None:
    plan = plan_of(num_blocks=4, boundaries=(0, 2, 4), batch_size=2, length=65, num_microbatches=3)
    hidden = 2 * 64 * 32 * 4  # float32
    ends = sum(p.numel() for p in checkpoints.load_ends(tiny.folder).parameters())
    # Both stages' inputs and gradients, what leaves the last one and what comes back from the first.
    assert train.bytes_kept(plan, tiny.folder) == 3 * (6 * hidden + 2 * ends * 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def swarm(folder: Path) -> Iterator[Processes]:
    with Processes(folder / "swarm") as swarm:
        yield swarm


@pytest.fixture(scope="module")
def link(folder: Path, swarm: Processes) -> str:
    run = open_run(folder / "run", ["hi", "ta"], pretrain_steps=2)
    flags = ("--train-steps", "100000", "--max-threads", "1")
    link: str = swarm.coordinator(run.path, *SMALL, *flags).ready(seconds=120)["link"]
    for blocks in ("0:1", "1:2"):
        swarm.host(link, blocks, "--max-threads", "1")
    return link


def trainer_of(swarm: Processes, link: str, place: Path, *flags: str) -> RoleProcess:
    where = ("--join", link, "--state-dir", str(place), "--host", "127.0.0.1")
    return swarm.start("seshu_swarm.peer", "train", *where, "--max-threads", "1", *flags)


@pytest.mark.swarm
def test_own_text_is_fed_until_ctrl_c_and_the_owner_is_shown(
    swarm: Processes, link: str, tmp_path: Path
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/hi.txt").write_text("पानी बहता है और नदी गाती है।\n\n" * 200)
    flags = ("--data", str(tmp_path / "text"), "--languages", "hi", "--max-in-flight", "2")
    trainer = trainer_of(swarm, link, tmp_path / "state", *flags)
    first = trainer.wait_for("trained-step", seconds=120)
    later = trainer.wait_for("trained-step", seconds=120, number=6)
    assert later["step"] > first["step"]
    assert 0 < later["loss"] < 7, "near the logarithm of 256"
    start = later["numbers"][0]
    assert later["numbers"] == list(range(start, start + 4))
    assert start > first["numbers"][-1]
    trainer.wait_for("progress", seconds=10)
    trainer.process.send_signal(2)
    assert trainer.wait(seconds=30) == 130
    shown = json.loads((tmp_path / "state/status.json").read_bytes())
    assert (shown["role"], shown["doing"]) == ("train", "training")
    assert shown["sent_bytes"] > 0
    assert shown["uploaded_today_bytes"] > 0
    assert "Traceback" not in trainer.log.read_text()


@pytest.mark.swarm
def test_an_upload_limit_pauses_it_and_the_step_goes_on_without(
    swarm: Processes, link: str, tmp_path: Path
) -> None:
    limited = trainer_of(swarm, link, tmp_path / "limited", "--max-upload-per-day", "100KB")
    assert "UPLOAD_LIMIT" in limited.wait_for("paused", seconds=120)["reason"]
    other = trainer_of(swarm, link, tmp_path / "other")
    other.wait_for("trained-step", seconds=120, number=3)
    assert limited.process.poll() is None
    for trainer in (limited, other):
        trainer.process.send_signal(2)
        assert trainer.wait(seconds=30) == 130


@pytest.mark.swarm
def test_a_language_that_the_run_is_not_trained_on_is_refused(
    swarm: Processes, link: str, tmp_path: Path
) -> None:
    foreign = trainer_of(swarm, link, tmp_path, "--languages", "bn")
    assert foreign.wait(seconds=120) == UsageError.exit_code
    assert "is trained on hi, ta" in foreign.tail()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bad_rows": "guess"}, "refuse or skip"),
        ({"max_in_flight": 0}, "at least 1"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TrainConfig(**settings)


def test_text_that_is_not_there_is_refused_before_anybody_is_joined() -> None:
    with pytest.raises(DataError, match="/nowhere is not there"):
        train.run(TrainConfig(join="seshu://nobody", data="/nowhere"))


@pytest.mark.swarm
def test_a_run_that_is_not_trained_through_peers_says_so(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", ["hi"], pretrain_steps=2)
    with Processes(tmp_path / "swarm") as swarm:
        link = swarm.coordinator(run.path).ready(seconds=120)["link"]
        where = ("--join", link, "--state-dir", str(tmp_path / "state"), "--host", "127.0.0.1")
        trainer = swarm.start("seshu_swarm.peer", "train", *where)
        assert trainer.wait(seconds=120) == UsageError.exit_code
        assert "is not trained through its peers now" in trainer.tail()
