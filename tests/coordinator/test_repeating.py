"""A round pays for no reading whose answer it knows, and returning adapters close none."""

from __future__ import annotations

from pathlib import Path

import pytest

from seshu_swarm.coordinator.rounds.repeating import asked_before
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.holdout import Holdout
from seshu_swarm.data.text import Row

BASE, OTHER_BASE = "0" * 64, "1" * 64
A, B = "a" * 64, "b" * 64
HELD = Holdout(rows={"hi": (Row("translate", "two", "दो", "hi"),)}, documents={})


class Asked:
    """A run whose first round put A and B before the gate."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        path.mkdir()
        self.ledger = Ledger(self.folder.ledger)
        self.hold_outs = HoldOuts(self.folder, self.ledger.database)
        for _ in range(2):
            self.hold_outs.add(Role.GATE, HELD)
        self.decisions = Decisions(self.ledger.database)
        self.begin(BASE, A, B)

    def begin(self, parent: str, *digests: str) -> int:
        number = self.ledger.begin_round(parent=parent, seed=1, closes_at=0.0).number
        ids = {f"{n:016x}": digest for n, digest in enumerate(digests)}
        self.decisions.note(number, RoundState.CHECKING, {"ids": ids})
        return number

    def gate(self, *, accepted: bool) -> None:
        read = {"hold_out": "gate-1", "verdict": {"accepted": accepted, "reasons": []}}
        self.decisions.note(1, RoundState.GATING, read)

    def again(self, parent: str, *digests: str) -> int | None:
        current = self.ledger.round(self.begin(parent, *digests))
        return asked_before(self.folder, self.ledger, current, digests)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path / "run")


def test_the_same_adapters_on_the_same_base_were_answered(asked: Asked) -> None:
    asked.gate(accepted=False)
    assert asked.again(BASE, B, A) == 1
    assert asked.again(BASE, A) is None, "fewer are another question"
    assert asked.again(BASE, A, B, "c" * 64) is None
    assert asked.again(OTHER_BASE, A, B) is None


def test_a_round_is_not_its_own_answer(asked: Asked) -> None:
    """Taken up after a kill it would otherwise find what it had decided."""
    asked.gate(accepted=False)
    assert asked_before(asked.folder, asked.ledger, asked.ledger.round(1), (A, B)) is None


def test_another_gate_set_may_say_otherwise(asked: Asked) -> None:
    asked.gate(accepted=False)
    asked.hold_outs.retire("gate-1")
    assert asked.again(BASE, A, B) is None


def test_what_the_final_set_never_answered_is_asked_again(asked: Asked) -> None:
    asked.gate(accepted=True)
    assert asked.again(BASE, A, B) is None
    asked.decisions.note(1, RoundState.VERIFYING, {"before": {}, "after": {}})
    assert asked.again(BASE, A, B) == 1


def test_before_the_gate_nothing_was_answered(asked: Asked) -> None:
    assert asked.again(BASE, A, B) is None


def test_adapters_that_return_are_not_new(asked: Asked) -> None:
    ledger = asked.ledger
    for number, digest in ((1, A), (1, B), (2, A), (2, "c" * 64), (3, A), (3, B)):
        ledger.add_adapter(digest, round_number=number, owner="me", record=b"")
    assert [ledger.count_new_adapters(number) for number in (1, 2, 3)] == [2, 1, 0]
