"""Old rounds give room, and nothing that a replay or the head needs goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.releasing.release import Pushed, note
from seshu_swarm.coordinator.releasing.waiting import waiting_for_hub
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Judgement, Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage
from seshu_swarm.coordinator.state.pruning import prune
from seshu_swarm.coordinator.state.removing import ASIDE, remove_package
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import UsageError
from seshu_swarm.packages import Manifest

SHARD_BYTES = 100


def name(kind: str, number: int) -> str:
    return f"{kind}{number:063x}"


def package(run: RunFolder, digest: str, kind: str = "checkpoint") -> None:
    folder = run.package(digest)
    folder.mkdir(parents=True)
    for file in ("model-1.safetensors", "model-2.safetensors"):
        (folder / file).write_bytes(b"w" * SHARD_BYTES)
    (folder / "manifest.json").write_bytes(manifest(kind))


def manifest(kind: str) -> bytes:
    return Manifest(kind, {}, {}).to_bytes()


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
            package(run, name(kind, number), "adapter")
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
    # Rounds 1 and 2: two checkpoints of two shards, two adapters with a manifest.
    adapter_bytes = 2 * SHARD_BYTES + len(manifest("adapter"))
    assert prune(run, ledger, keep=5) == 2 * 2 * SHARD_BYTES + 2 * adapter_bytes
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
    assert [weights(run, name("c", n)) for n in range(1, 8)] == [0] * 6 + [2]


def test_a_digest_of_the_run_itself_that_a_stranger_hands_in_stays(run: RunFolder) -> None:
    ledger = Ledger(run.ledger)
    public = {"catalogue": name("f", 1), "held-out": name("f", 2)}
    for kind, digest in public.items():
        package(run, digest, kind)
    ledger.set_fact("catalogue", public["catalogue"])
    ledger.set_fact("revealed", {"gate-1": public["held-out"]})
    # Of the kind that may go: the line alone protects it.
    package(run, name("f", 3), "adapter")
    Lineage(ledger.database).add(name("f", 3), parent=name("c", 7), kind=Kind.PRETRAINING)
    wanted = [name("b", 0), *public.values(), name("f", 3), name("c", 7)]
    package(run, name("f", 4), "something else")
    for digest in (*wanted, name("f", 4)):
        ledger.add_adapter(digest, round_number=1, owner="stranger", record=b"")
        ledger.judge(digest, state="rejected", reason="no adapter", gain="", next_step="")
    prune(run, ledger, keep=5)
    assert [weights(run, digest) for digest in (*wanted, name("f", 4))] == [2] * 6
    assert not run.package(name("d", 1)).exists()


def test_a_merged_adapter_stays_when_it_is_revoked_or_handed_in_again(run: RunFolder) -> None:
    ledger = Ledger(run.ledger)
    ledger.judge(name("a", 1), state="rejected", reason="REVOKED: why", gain="", next_step="")
    ledger.add_adapter(name("a", 2), round_number=4, owner="o", record=b"")
    ledger.judge(name("a", 2), state="rejected", reason="DUPLICATE", gain="", next_step="")
    prune(run, ledger, keep=1)
    assert weights(run, name("a", 1)) == weights(run, name("a", 2)) == 2
    assert not run.package(name("d", 6)).exists()


def test_rounds_that_published_nothing_do_not_count(run: RunFolder) -> None:
    ledger = Ledger(run.ledger)
    for number in range(8, 14):
        ledger.begin_round(parent=ledger.fact("revision"), seed=1, closes_at=0.0)
        package(run, name("d", number), "adapter")
        ledger.add_adapter(name("d", number), round_number=number, owner="o", record=b"")
        ledger.move_round(number, RoundState.ABORTED, reason="nothing")
    prune(run, ledger, keep=5)
    kept = [n for n in range(1, 14) if run.package(name("d", n)).exists()]
    assert kept == list(range(3, 14))
    assert [weights(run, name("c", n)) for n in range(1, 8)] == [0, 0, 2, 2, 2, 2, 2]


def test_fewer_rounds_than_are_kept_lose_nothing(run: RunFolder) -> None:
    assert prune(run, Ledger(run.ledger), keep=7) == 0 == prune(run, Ledger(run.ledger), keep=9)


def test_what_is_not_on_the_hub_keeps_its_weights(run: RunFolder) -> None:
    ledger = Ledger(run.ledger)
    assert waiting_for_hub(ledger, repository=None) == frozenset()
    every = frozenset(name("c", n) for n in range(1, 8))
    assert waiting_for_hub(ledger, repository="o/r") == every
    note(ledger, "o/r", Pushed("round-1", name("c", 1), "commit"))
    Lineage(ledger.database).withdraw(name("c", 3), "revoked")
    # The repository was set once, and is not any more.
    unpushed = waiting_for_hub(ledger, repository=None)
    assert unpushed == every - {name("c", 1), name("c", 3)}
    prune(run, ledger, keep=4, unpushed=unpushed)
    assert [weights(run, name("c", n)) for n in range(1, 8)] == [0, 2, 0, 2, 2, 2, 2]


def test_a_package_goes_whole(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it is deleted, it is no package any more; what is left goes with the next."""
    left = run.packages / ASIDE

    def die(path: Path, **keywords: object) -> None:
        if path.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", die)
        remove_package(run, name("d", 1))
    assert not run.package(name("d", 1)).exists() and len(list(left.iterdir())) == 3
    for digest in (name("d", 2), name("d", 2)):
        remove_package(run, digest)
    assert not left.exists() and not run.package(name("d", 2)).exists()


def test_too_little_is_not_kept() -> None:
    with pytest.raises(UsageError, match=r"--keep-rounds 2.*at least 5"):
        RunConfig(keep_rounds=2)
