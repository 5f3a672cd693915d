"""Runs that are trained through real processes: opened here, started as people would, and their accounts.

The accounts are the coordinator's file of commits, read without the code that wrote it.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm.coordinator.conducting.journal import FACT
from seshu_swarm.coordinator.conducting.kept import kept_plan
from seshu_swarm.coordinator.config import OpenConfig, PretrainConfig
from seshu_swarm.coordinator.opening import command as opening
from seshu_swarm.coordinator.pretraining import command as pretraining
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.records.kinds import TrainingRecord
from tests.swarms import Processes, RoleProcess

D_MODEL, NUM_BLOCKS = 64, 4
STAGES = ("0:2", "2:4")
NUM_GROUPS = len(STAGES) + 1
# Small microbatches: steps of a fraction of a second on two cores.
SMALL = ("--microbatches", "4", "--train-batch-size", "2", "--train-length", "65")
START_SECONDS = 60.0
LOOK_SECONDS = 0.2

Id = tuple[str, int]


def open_random(path: Path) -> RunFolder:
    """A run over the phrasebook's Hindi, with a base of random weights."""
    opening.run(
        OpenConfig(state_dir=str(path), languages=("hi",), hold_out_rows=120, hold_out_documents=24)
    )
    pretraining.run(
        PretrainConfig(
            state_dir=str(path), d_model=D_MODEL, num_blocks=NUM_BLOCKS, max_steps=0, max_threads=1
        )
    )
    return RunFolder.of(str(path))


@dataclass(frozen=True)
class Commit:
    """One line: an average that a group was told to make, from weights `version` on."""

    group: int
    version: tuple[int, int]
    round: int
    claims: dict[str, frozenset[Id]]

    @property
    def step(self) -> int:
        return self.version[0]

    @property
    def makes(self) -> tuple[int, int]:
        return self.step + 1, self.round


class Accounts:
    """Of a run's plan, as they are now."""

    def __init__(self, run: RunFolder) -> None:
        plan = kept_plan(Ledger(run.ledger))
        assert plan is not None
        self.plan: TrainingRecord = plan
        self.books: dict[str, Any] = Ledger(run.ledger).fact(FACT)
        path = run.training_of(plan.plan) / "commits.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        self.commits = [_commit(json.loads(line)) for line in lines]

    @property
    def made(self) -> int:
        """Steps in the weights of all groups."""
        return min(int(step) for step, _ in self.books["versions"])

    def counted(self) -> list[list[dict[str, frozenset[Id]]]]:
        """For each step that is made and for each group, the claims that are in its weights."""
        begun: list[set[tuple[int, int]]] = [set() for _ in range(NUM_GROUPS)]
        told: dict[tuple[int, int], list[Commit]] = defaultdict(list)
        for commit in self.commits:
            begun[commit.group].add(commit.version)
            told[commit.group, commit.step].append(commit)
        for group, version in enumerate(self.books["versions"]):
            begun[group].add(tuple(version))
        return [
            [_that_counts(told[group, step], begun[group]) for group in range(NUM_GROUPS)]
            for step in range(self.made)
        ]

    def check(self, forfeited: Collection[tuple[int, Id]] = ()) -> None:
        """Every id of a step is in the weights of every group once, or named as forfeited there; and in
        one step alone."""
        seen: set[Id] = set()
        for step, groups in enumerate(self.counted()):
            lists = [[id_ for ids in claims.values() for id_ in ids] for claims in groups]
            assert all(len(ids) == len(set(ids)) for ids in lists), f"step {step} counts twice"
            whole = set[Id]().union(*lists)
            for group, ids in enumerate(lists):
                missing = {(group, id_) for id_ in whole.difference(ids)}
                assert missing <= set(forfeited), f"step {step}: group {group} lacks {missing}"
            assert 0 < len(whole) <= self.plan.num_microbatches
            assert seen.isdisjoint(whole), f"step {step} repeats an id"
            seen |= whole

    def by_member(self, group: int) -> dict[str, int]:
        """How many ids of each member are in the weights of a group."""
        found: dict[str, int] = defaultdict(int)
        for groups in self.counted():
            for name, ids in groups[group].items():
                found[name] += len(ids)
        return {name: count for name, count in found.items() if count}

    def since(self, step: int, group: int) -> set[str]:
        """Who has counted an id in a step from this one on."""
        return {
            name for groups in self.counted()[step:] for name, ids in groups[group].items() if ids
        }


def _commit(line: dict[str, Any]) -> Commit:
    claims = {
        member: frozenset((trainer, number) for trainer in table for number in table[trainer])
        for member, table in line["claims"].items()
    }
    step, round_ = line["version"]
    return Commit(line["group"], (step, round_), line["round"], claims)


def _that_counts(told: list[Commit], begun: set[tuple[int, int]]) -> dict[str, frozenset[Id]]:
    """The commit from whose weights the next step begins. Where those were lost and stored ones took their
    place, the last one: it was made, and lost afterwards."""
    assert told, "a step without a commit"
    found = [commit for commit in told if commit.makes in begun]
    assert len(found) <= 1, "two averages of one step count"
    return (found or told)[-1].claims


class TrainedRun:
    """The processes of one run; each test leaves as many as it found."""

    def __init__(self, run: RunFolder, swarm: Processes, *flags: str) -> None:
        self.run, self._swarm = run, swarm
        self._flags = ("--stages", str(len(STAGES)), "--max-threads", "1", *SMALL, *flags)
        self._num_started = 0
        self._conductors: list[RoleProcess] = []
        self.coordinator = self.conduct()
        self.link: str = self.coordinator.ready(seconds=START_SECONDS)["link"]
        self.replicas: list[list[RoleProcess]] = [[] for _ in STAGES]
        self.trainers: list[RoleProcess] = []

    def conduct(self) -> RoleProcess:
        self.coordinator = self._swarm.coordinator(self.run.path, *self._flags)
        self._conductors.append(self.coordinator)
        return self.coordinator

    def replica(self, stage: int) -> RoleProcess:
        flags = ("--max-threads", "1", "--rebalance-seconds", "0")
        started = self._swarm.host(self.link, STAGES[stage], *flags)
        self.replicas[stage].append(started)
        return started

    def trainer(self) -> RoleProcess:
        self._num_started += 1
        folder = self._swarm.folder / f"trainer-{self._num_started}"
        where = ("--join", self.link, "--state-dir", str(folder), "--host", "127.0.0.1")
        flags = ("--max-threads", "1", "--seed", str(self._num_started))
        started = self._swarm.start("seshu_swarm.peer", "train", *where, *flags)
        self.trainers.append(started)
        return started

    def accounts(self) -> Accounts:
        return Accounts(self.run)

    def check(self) -> None:
        """The accounts are whole, from the first step on."""
        said = [e for one in self._conductors for e in one.events if e["event"] == "forfeited"]
        self.accounts().check([(e["group"], (e["trainer"], e["number"])) for e in said])

    def until(self, holds: Callable[[Accounts], bool], what: str, *, seconds: float) -> Accounts:
        """The accounts, once they are so; AssertionError with the coordinator's log."""
        deadline = time.monotonic() + seconds
        while not holds(found := self.accounts()):
            if time.monotonic() > deadline:
                told = [e["text"] for e in self.coordinator.events if e["event"] != "training"]
                raise AssertionError("\n".join([f"not {what} in {seconds:g} s", *told[-15:]]))
            time.sleep(LOOK_SECONDS)
        return found

    def until_made(self, more: int, *, seconds: float = 60.0) -> Accounts:
        """After so many more steps."""
        target = self.accounts().made + more
        return self.until(lambda now: now.made >= target, f"{more} steps on", seconds=seconds)

    def until_counted_by(self, name: str, group: int, *, seconds: float = 60.0) -> Accounts:
        """Once a member has counted something from now on."""
        step = self.accounts().made
        what = f"{name} counting in group {group}"
        return self.until(lambda now: name in now.since(step, group), what, seconds=seconds)


def name_of(process: RoleProcess) -> str:
    """Of a replica in the plan."""
    said = process.wait_for("stage", seconds=START_SECONDS, matching=lambda e: "member" in e)
    return str(said["member"])


def name_of_trainer(process: RoleProcess) -> str:
    said = process.wait_for("ready", seconds=START_SECONDS)
    return str(said["trainer"])
