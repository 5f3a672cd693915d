"""Old rounds give room, and nothing that a replay or the head needs goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Judgement, Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage
from seshu_swarm.coordinator.state.pruning import prune
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import UsageError

SHARD_BYTES = 100


def name(kind: str, number: int) -> str:
    return f"{kind}{number:063x}"


def package(run: RunFolder, digest: str) -> None:
    folder = run.package(digest)
    folder.mkdir(parents=True)
    for file in ("model-1.safetensors", "model-2.safetensors"):
        (folder / file).write_bytes(b"w" * SHARD_BYTES)
    (folder / "manifest.json").write_text("{}")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A base, then seven rounds, each with a merged adapter and one that was not."""
    run = RunFolder(tmp_path)
    ledger = Ledger(run.ledger)
    package(run, name("b", 0))
    Lineage(ledger.database).add(name("b", 0), parent=None, kind=Kind.BASE)
    for number in range(1, 8):
        current = ledger.begin_round(parent=ledger.fact("revision"), seed=1, closes_at=0.0)
        judged = []
        for kind, state in (("a", "accepted"), ("d", "rejected")):
            package(run, name(kind, number))
            ledger.add_adapter(name(kind, number), round_number=number, owner="o", record=b"")
            judged.append(Judgement(name(kind, number), state, "", "", ""))
        for state in list(RoundState)[1:6]:
            ledger.move_round(number, state)
        package(run, name("c", number))
        ledger.end_round(
            current, RoundState.PUBLISHED, judgements=judged, revision=name("c", number)
        )
    return run


def weights(run: RunFolder, digest: str) -> int:
    return len(list(run.package(digest).glob("*.safetensors")))


def test_old_weights_go_and_manifests_stay(run: RunFolder) -> None:
    ledger = Ledger(run.ledger)
    # Rounds 1 and 2: two checkpoints of two shards, two adapters with a manifest of 2 bytes.
    assert prune(run, ledger, keep=5) == 2 * 2 * SHARD_BYTES + 2 * (2 * SHARD_BYTES + 2)
    assert [weights(run, name("c", n)) for n in range(1, 8)] == [0, 0, 2, 2, 2, 2, 2]
    assert [run.package(name("d", n)).exists() for n in range(1, 5)] == [False, False, True, True]
    assert all(weights(run, name("a", n)) == 2 for n in range(1, 8)) and weights(run, name("b", 0))
    assert all((run.package(name("c", n)) / "manifest.json").exists() for n in range(1, 8))
    assert prune(run, ledger, keep=5) == 0


def test_what_was_handed_in_again_stays(run: RunFolder) -> None:
    ledger = Ledger(run.ledger)
    ledger.begin_round(parent=ledger.fact("revision"), seed=1, closes_at=0.0)
    ledger.add_adapter(name("d", 1), round_number=8, owner="o", record=b"")
    prune(run, ledger, keep=5)
    assert weights(run, name("d", 1)) == 2 and not run.package(name("d", 2)).exists()


def test_a_boundary_stays_however_old(run: RunFolder) -> None:
    ledger = Ledger(run.ledger)
    line = Lineage(ledger.database)
    package(run, name("e", 1))
    line.add(name("e", 1), parent=name("c", 7), kind=Kind.PRETRAINING)
    prune(run, ledger, keep=1)
    assert weights(run, name("e", 1)) == 2 and weights(run, name("b", 0)) == 2
    assert [weights(run, name("c", n)) for n in range(1, 8)] == [0] * 7


def test_too_little_is_not_kept() -> None:
    with pytest.raises(UsageError, match=r"--keep-rounds 2.*at least 5"):
        RunConfig(keep_rounds=2)
