"""Simulations on a tiny recorded run: they repeat what was recorded, and every documented policy runs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm.coordinator.blind import judging
from seshu_swarm.coordinator.research import simulating
from seshu_swarm.coordinator.research.config import SimulateConfig
from seshu_swarm.coordinator.research.recorded import Recording
from seshu_swarm.coordinator.state.hold_outs import Role
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import PackageError, UsageError
from tests.coordinator.recordings import MAX_DETECTABLE, Recorded, held_out, recorded

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"
EXAMPLES = {
    body.partition("\n")[0].removeprefix("# "): body
    for body in re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL
    )
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    torch.set_num_threads(1)
    return recorded(tmp_path_factory.mktemp("recorded") / "run")


def simulate(made: Recorded, policy: Path, **settings: Any) -> dict[str, Any]:
    """The report of the command."""
    report = policy.with_suffix(".json")
    config = SimulateConfig(
        state_dir=str(made.run.folder.path),
        policy=str(policy),
        report=str(report),
        methods=("ties",),
        max_detectable=MAX_DETECTABLE,
        max_threads=1,
        **settings,
    )
    assert simulating.run(config) == 0
    found: dict[str, Any] = json.loads(report.read_bytes())
    return found


def written(folder: Path, name: str, text: str | None = None) -> Path:
    path = folder / name
    path.write_text(EXAMPLES[name] if text is None else text)
    return path


def state_of(folder: Path) -> dict[str, tuple[str, int]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in files
    }


def test_the_default_policy_repeats_what_was_recorded(made: Recorded, tmp_path: Path) -> None:
    before = state_of(made.run.folder.path)
    report = simulate(made, written(tmp_path, "default.py"))
    assert state_of(made.run.folder.path) == before, "a simulation changes nothing of the run"
    first, again, second, neither = report["rows"]
    assert first["mixture"] == again["mixture"] and first["splits"] == again["splits"]
    assert {digest for digest, _ in again["mixture"]["adapters"]} == made.members
    assert again["published"] and again["verdict"] == "published"
    assert second["mixture"] is neither["mixture"] is None
    assert second["verdict"].startswith("aborted") and neither["verdict"] == "nothing chosen"
    assert second["parent"] == made.revision, "each round on its own parent"


def test_the_final_split_says_of_the_mixture_what_it_says_of_the_published_checkpoint(
    made: Recorded, tmp_path: Path
) -> None:
    row = simulate(made, written(tmp_path, "fedavg.py"), rounds=(1,))["rows"][0]
    folder = made.run.folder
    word = judging.conclude(
        folder.package(row["parent"]), folder.package(made.revision), held_out(made.run, Role.FINAL)
    )
    for language, found in row["splits"]["final"]["gains"].items():
        change = word.after[language] - word.before[language]
        assert found["delta_bits_per_byte"] == pytest.approx(change, abs=1e-6)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_documented_policy_runs(made: Recorded, tmp_path: Path, name: str) -> None:
    report = simulate(made, written(tmp_path, name))
    rows, results = report["rows"], report["results"]
    assert [(row["round"], row["outcome"]) for row in rows] == [
        (number, outcome) for number in (1, 2) for outcome in ("recorded", Path(name).stem)
    ]
    mine = [row for row in rows if row["outcome"] != "recorded" and row["published"]]
    assert results["published_policy"] == len(mine) and results["rounds"] == 2
    changes = [
        sum(found["delta_bits_per_byte"] for found in row["splits"]["final"]["gains"].values()) / 2
        for row in mine
    ]
    assert results["final_change_policy"] == pytest.approx(sum(changes), abs=1e-12)
    assert all(change < 0 for change in changes)


def test_fedavg_takes_everyone_alike_and_is_stopped_only_by_the_final_split(
    made: Recorded, tmp_path: Path
) -> None:
    _, first, _, second = simulate(made, written(tmp_path, "fedavg.py"))["rows"]
    assert dict(first["mixture"]["adapters"]) == dict.fromkeys(made.helpful + made.harmful, 0.25)
    assert first["mixture"]["lambda"] == 1.0
    assert not second["published"] and "final split disagrees" in second["verdict"]


def test_a_stricter_gate_refuses_in_the_policy_s_own_words(made: Recorded, tmp_path: Path) -> None:
    text = EXAMPLES["fedavg.py"].replace("return True", "return gate.test_index > 1")
    row = simulate(made, written(tmp_path, "never.py", text), rounds=(1,))["rows"][1]
    assert not row["published"] and row["verdict"].startswith("refused at the gate")
    assert row["splits"]["final"]["gains"], "what it would have done is shown all the same"


def test_what_was_done_to_the_sign_shows_in_the_score(made: Recorded, tmp_path: Path) -> None:
    """A policy that takes one candidate after the other, so that its order is that of the gains."""
    text = """
    def policy(round):
        best = max(round.ids, key=lambda name: round.gain(round.mixture([name], lam=0.25)))
        assert round.scores_left == round.rule.budget - len(round.ids)
        return round.mixture([best], lam=0.25)
    """
    path = written(tmp_path, "best.py", re.sub("^    ", "", text, flags=re.MULTILINE))
    row = simulate(made, path, rounds=(1,))["rows"][1]
    ((digest, _),) = row["mixture"]["adapters"]
    assert digest in made.helpful


def test_a_budget_that_is_spent_ends_the_simulation_by_name(made: Recorded, tmp_path: Path) -> None:
    text = "def policy(round):\n    return max(map(lambda i: round.mixture([i]), round.ids), key=round.gain)\n"
    path = written(tmp_path, "greedy.py", text)
    with pytest.raises(UsageError, match=r"greedy.py line 2: the policy asked for more than 3"):
        simulate(made, path, rounds=(1,), score_calls=3)


@pytest.mark.parametrize("number", [3, 0])
def test_a_round_that_never_was_is_refused(made: Recorded, tmp_path: Path, number: int) -> None:
    with pytest.raises(UsageError, match=f"--rounds {number}: no such round.*\\(1, 2\\)"):
        simulate(made, written(tmp_path, "default.py"), rounds=(number,))


def test_a_run_without_rounds_is_refused(made: Recorded, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        Recording(RunFolder(tmp_path))
    shutil.copytree(made.run.folder.path, tmp_path / "run")
    ledger = RunFolder(tmp_path / "run").ledger
    for path in ledger.parent.glob("ledger.sqlite*"):
        path.unlink()
    ledger.touch()
    with pytest.raises(UsageError, match="no ended round with adapters"):
        Recording(RunFolder(tmp_path / "run")).numbers()


def test_missing_pieces_are_named(made: Recorded, tmp_path: Path) -> None:
    shutil.copytree(made.run.folder.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    parent = Recording(run).round(1).parent
    digest = made.harmful[0]
    for path, what in (
        (run.hold_outs / "final-1.jsonl", "held-out set final-1.jsonl"),
        (run.package(digest), f"adapter {digest[:12]} of round 1"),
        (run.package(parent), "the base of round 1"),
    ):
        kept = tmp_path / "kept"
        path.rename(kept)
        with pytest.raises(PackageError, match=what):
            Recording(run).round(1)
        kept.rename(path)
    assert len(Recording(run).round(1).candidates) == 4


def test_a_run_that_is_being_written_is_left_alone(made: Recorded) -> None:
    with (
        made.run.folder.hold(),
        pytest.raises(UsageError, match="a coordinator works on"),
    ):
        Recording(made.run.folder)
    assert Recording(made.run.folder).numbers() == (1, 2)
