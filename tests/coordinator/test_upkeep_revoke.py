"""Revoking: the merges again without one adapter, a line that goes on, and what is said of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.delta import delta_of
from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.rules import AdapterRules
from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.lineage import Kind
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.upkeep import revoking
from seshu_swarm.coordinator.upkeep.config import RevokeConfig
from seshu_swarm.coordinator.upkeep.replaying import rebuild
from seshu_swarm.coordinator.upkeep.revoking import revoke
from seshu_swarm.errors import RoundError, UsageError
from tests.coordinator.runs import Run, adapter_on, hand_in, opened, publish_round

torch.set_num_threads(1)


class Rounds:
    """Round 1 merged `early` and `other`, round 2 `later`, which was trained on what round 1 made."""

    def __init__(self, run: Run) -> None:
        self.base = run.head
        self.early = adapter_on(run, run.part(0), seed=1)
        self.other = adapter_on(run, run.part(1), seed=2)
        self.first = publish_round(run, {self.early: 0.5, self.other: 0.4})
        self.later = adapter_on(run, run.part(2), seed=3)
        self.second = publish_round(run, {self.later: 0.3})


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return opened(tmp_path_factory.mktemp("run") / "state")


@pytest.fixture(scope="module")
def made(fresh: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Rounds]:
    run = fresh.copy(tmp_path_factory.mktemp("made") / "state")
    return run, Rounds(run)


@pytest.fixture
def run(made: tuple[Run, Rounds], tmp_path: Path) -> Run:
    return made[0].copy(tmp_path / "state")


@pytest.fixture
def rounds(made: tuple[Run, Rounds]) -> Rounds:
    return made[1]


def expected(run: Run, base: str, *steps: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """W₀ + Σ w·s·B·A in float64, rounded to float32 after every round, written out."""
    shape = checkpoints.read_shape(run.folder.package(base))
    weights = dict(run.tensors(base))
    for step in steps:
        total: dict[str, torch.Tensor] = {}
        for digest, weight in step.items():
            path = run.folder.adapter(digest)
            adapter = read_adapter(path, shape=shape, rules=AdapterRules(), digest=digest)
            for name, delta in delta_of(adapter).items():
                total[name] = total.get(name, torch.zeros(()).double()) + weight * delta
        for name, delta in total.items():
            weights[name] = (weights[name].double() + delta).float()
    return weights


def assert_close(run: Run, revision: str, weights: Mapping[str, torch.Tensor]) -> None:
    found = run.tensors(revision)
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)


def test_the_head_is_what_the_others_alone_would_have_made(run: Run, rounds: Rounds) -> None:
    outcome = revoke(run.folder, run.ledger, rounds.early, "its rows were stolen")
    assert_close(
        run, run.head, expected(run, rounds.base, {rounds.other: 0.4}, {rounds.later: 0.3})
    )
    head = run.lineage.head()
    assert head is not None and run.ledger.fact("revision") == head.revision == outcome.revision
    assert (head.parent, head.kind, head.round) == (rounds.second, Kind.REVOCATION, 2)
    withdrawn = {r.revision for r in run.lineage.all() if r.withdrawn}
    assert withdrawn == set(outcome.tainted) == {rounds.first, rounds.second}
    # The later one was trained on a base with the revoked one in it; the other one was not.
    assert outcome.descendants == (rounds.later,)
    about = packages.verify(run.folder.package(head.revision), head.revision).about
    assert about["revoked"] == [rounds.early] and about["replayed_from"] == rounds.base
    card = (run.folder.package(head.revision) / "README.md").read_text(encoding="utf-8")
    assert "its rows were stolen" in card and rounds.early in card


def test_its_manifest_alone_makes_it_again(run: Run, rounds: Rounds, tmp_path: Path) -> None:
    revoke(run.folder, run.ledger, rounds.early, "why")
    about = packages.read_manifest(run.folder.package(run.head)).about
    assert rebuild(run.folder, about, tmp_path / "again") == run.head


def test_killed_and_run_again_it_ends_with_the_same_digest(
    made: tuple[Run, Rounds], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, rounds = made
    unbroken = run.copy(tmp_path / "unbroken")
    revoke(unbroken.folder, unbroken.ledger, rounds.early, "why")
    for k, step in enumerate(("_written", "pass_gate", "move_head")):
        broken = run.copy(tmp_path / f"broken-{k}")

        def die(*arguments: object, **keywords: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(revoking, step, die)
            with pytest.raises(KeyboardInterrupt):
                revoke(broken.folder, broken.ledger, rounds.early, "why")
        assert broken.head == rounds.second
        revoke(broken.folder, broken.ledger, rounds.early, "another reason")
        assert broken.head == unbroken.head
        assert revoke(broken.folder, broken.ledger, rounds.early, "").revision == unbroken.head
        assert len(broken.lineage.all()) == len(unbroken.lineage.all()) == 4
        # One pair of revisions is one reading, however often it was begun.
        assert Readings(broken.ledger.database).count("gate-1") == 1


def test_a_round_that_only_had_it_is_skipped_and_another_may_follow(
    run: Run, rounds: Rounds
) -> None:
    revoke(run.folder, run.ledger, rounds.later, "why")
    assert_close(run, run.head, expected(run, rounds.base, {rounds.early: 0.5, rounds.other: 0.4}))
    about = packages.read_manifest(run.folder.package(run.head)).about
    assert [recipe["round"] for recipe in about["recipes"]] == [1]
    withdrawn = {r.revision for r in run.lineage.all() if r.withdrawn}
    assert withdrawn == {rounds.second}
    # A second revocation stands on the first one's recipes.
    third = adapter_on(run, run.part(3), seed=4)
    publish_round(run, {third: 0.25})
    revoke(run.folder, run.ledger, rounds.other, "why")
    assert_close(run, run.head, expected(run, rounds.base, {rounds.early: 0.5}, {third: 0.25}))
    about = packages.read_manifest(run.folder.package(run.head)).about
    assert about["revoked"] == sorted([rounds.later, rounds.other])
    assert [r.kind for r in run.lineage.all()] == [
        Kind.PRETRAINING,
        Kind.ROUND,
        Kind.ROUND,
        Kind.REVOCATION,
        Kind.ROUND,
        Kind.REVOCATION,
    ]


def test_what_is_worse_than_the_boundary_gives_the_boundary_back(
    fresh: Run, tmp_path: Path
) -> None:
    run = fresh.copy(tmp_path / "state")
    boundary = run.head
    harmful = adapter_on(run, run.part(0), seed=1, sign=-1.0)
    good = adapter_on(run, run.part(1), seed=2)
    publish_round(run, {harmful: 0.5, good: 1.0})
    outcome = revoke(run.folder, run.ledger, good, "why")
    assert "the boundary's weights return" in outcome.text and "may be harmed" in outcome.text
    assert_close(run, run.head, run.tensors(boundary))
    assert run.head != boundary
    assert packages.read_manifest(run.folder.package(run.head)).about["recipes"] == []


def test_nothing_left_gives_the_boundary_back_without_a_reading(run: Run, rounds: Rounds) -> None:
    for digest in (rounds.later, rounds.early):
        revoke(run.folder, run.ledger, digest, "why")
    count = Readings(run.ledger.database).count("gate-1")
    outcome = revoke(run.folder, run.ledger, rounds.other, "why")
    assert "no other merge was left" in outcome.text
    assert_close(run, run.head, run.tensors(rounds.base))
    assert Readings(run.ledger.database).count("gate-1") == count


def test_before_the_boundary_it_cannot_be_taken_out(run: Run, rounds: Rounds) -> None:
    boundary = "ab" * 32
    run.lineage.add(boundary, parent=run.head, kind=Kind.PRETRAINING, round_=2)
    with pytest.raises(RoundError, match=f"merged before {boundary[:12]}.*training again"):
        revoke(run.folder, run.ledger, rounds.early, "why")
    found = run.ledger.adapter(rounds.early)
    assert found is not None and found.state == "accepted" and run.head == boundary


def test_an_open_round_ends_and_its_donors_are_told(run: Run, rounds: Rounds) -> None:
    current = run.ledger.begin_round(parent=run.head, seed=1, closes_at=0.0)
    waiting = "cd" * 32
    hand_in(run, waiting)
    revoke(run.folder, run.ledger, rounds.early, "why")
    assert run.ledger.round(current.number).state is RoundState.ABORTED
    found = run.ledger.adapter(waiting)
    assert found is not None and found.reason.startswith("STALE_BASE")
    assert run.folder.report(current.number).exists()


# The real command, killed with -9 in the transaction, before its last statement.
KILLED = """
import os, signal, sys
from seshu_swarm.coordinator import __main__ as coordinator
from seshu_swarm.coordinator.upkeep import moving
moving.add_revision = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(coordinator.main())
"""


def test_killed_while_the_head_moves_all_of_it_is_undone(run: Run, rounds: Rounds) -> None:
    current = run.ledger.begin_round(parent=run.head, seed=1, closes_at=0.0)
    waiting, judged = "cd" * 32, "ef" * 32
    for digest in (waiting, judged):
        hand_in(run, digest)
    run.ledger.judge(judged, state="rejected", reason="NOT_FINITE", gain="", next_step="")

    def state() -> list[object]:
        ledger = run.ledger
        found = [ledger.adapter(digest) for digest in (rounds.early, waiting, judged)]
        return [ledger.rounds(), run.lineage.all(), ledger.fact("revision"), *found]

    before = state()
    command = [sys.executable, "-c", KILLED, "revoke", rounds.early, "--max-threads", "1"]
    command += ["--state-dir", str(run.folder.path)]
    killed = subprocess.run(command, check=False, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert state() == before and Readings(run.ledger.database).count("gate-1") == 1
    outcome = revoke(run.folder, run.ledger, rounds.early, "why")
    assert run.head == outcome.revision and Readings(run.ledger.database).count("gate-1") == 1
    reasons = [
        found.reason for d in (rounds.early, waiting, judged) if (found := run.ledger.adapter(d))
    ]
    assert reasons[0] == "REVOKED: why" and reasons[1].startswith("STALE_BASE")
    # Who had a verdict keeps it.
    assert reasons[2] == "NOT_FINITE"
    assert run.ledger.round(current.number).state is RoundState.ABORTED
    # Killed before the report, the same command writes it.
    run.folder.report(current.number).unlink()
    revoke(run.folder, run.ledger, rounds.early, "why")
    assert run.folder.report(current.number).exists()


def test_the_gate_reads_what_the_run_was_started_with(run: Run, rounds: Rounds) -> None:
    run.ledger.set_fact("max_detectable", 1e-9)
    outcome = revoke(run.folder, run.ledger, rounds.early, "why")
    assert "hi is unscored" in outcome.text and "ta is unscored" in outcome.text


def test_it_is_refused_ever_after(run: Run, rounds: Rounds) -> None:
    record = next(a.record for a in run.ledger.adapters(1) if a.digest == rounds.early)
    revoke(run.folder, run.ledger, rounds.early, "its rows were stolen")
    current = run.ledger.begin_round(parent=run.head, seed=1, closes_at=0.0)
    verdict = Intake(run.ledger, lambda: current).take("donor", record)
    assert (verdict.state, verdict.reason) == ("rejected", "REVOKED: its rows were stolen")
    assert run.ledger.adapters(current.number) == []


def test_the_command_says_what_it_did_and_what_it_does_not_claim(
    run: Run, rounds: Rounds, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = RevokeConfig(state_dir=str(run.folder.path), digest=rounds.early[:10], max_threads=1)
    assert revoking.run(settings) == 0
    out = capsys.readouterr().out
    for said in (rounds.early, rounds.first, rounds.second, rounds.later, run.head, "backdoor"):
        assert said in out
    assert revoking.run(settings) == 0
    assert "taken out already" in capsys.readouterr().out


def test_what_names_no_merged_adapter_is_said(run: Run, rounds: Rounds) -> None:
    def command(digest: str, reason: str = "why") -> None:
        state = str(run.folder.path)
        revoking.run(RevokeConfig(state_dir=state, digest=digest, reason=reason, max_threads=1))

    current = run.ledger.begin_round(parent=run.head, seed=1, closes_at=0.0)
    for digest in ("cd" * 32, "cd" * 31 + "ce"):
        hand_in(run, digest)
    run.ledger.move_round(current.number, RoundState.ABORTED)
    for digest, message in (
        ("abc", "no digest"),
        ("../../etc/passwd", "no digest"),
        ("0" * 12, "was handed in"),
        ("cdcdcdcd", "begins 2 adapters"),
        ("cd" * 32, "was never merged"),
    ):
        with pytest.raises(UsageError, match=message):
            command(digest)
    with pytest.raises(UsageError, match="one line of 1 to"):
        command(rounds.early, "two\nlines")
    with run.folder.hold(), pytest.raises(UsageError, match="another coordinator"):
        command(rounds.early)
    assert run.head == rounds.second
