"""A replica's books, rule by rule."""

from __future__ import annotations

import pytest

from seshu_swarm.errors import RefusalError
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import (
    FIRST,
    NOTHING,
    Call,
    Commit,
    Effect,
    Join,
    MicrobatchId,
    Open,
    Phase,
    Seal,
    Status,
    Version,
    Withdrawal,
)

A, B, C = (MicrobatchId("t", number) for number in range(3))
IDS = frozenset({A, B})
COMMIT = Commit(FIRST, 1, (("r", 2),))


def call(id_: MicrobatchId, round_: int = 1, *, version: Version = FIRST, attempt: int = 0) -> Call:
    return Call(id_, version, round_, attempt)


def opened(round_: int = 1) -> StageLedger:
    ledger = StageLedger("r")
    assert ledger.obey(Open(FIRST, round_, IDS, keeps=False)) is Effect.CLEAR
    return ledger


def averaging() -> StageLedger:
    ledger = opened()
    assert ledger.count(call(A)) and ledger.count(call(B))
    ledger.obey(Seal(FIRST, 1))
    assert ledger.obey(COMMIT) is Effect.AVERAGE
    return ledger


def refused(ledger: StageLedger, asked: Call) -> str:
    with pytest.raises(RefusalError) as caught:
        ledger.count(asked)
    return caught.value.name


def test_a_repeat_is_answered_and_not_accumulated() -> None:
    ledger = opened()
    assert ledger.admits(call(A)) and ledger.count(call(A))
    assert not ledger.admits(call(A, attempt=1))
    assert not ledger.count(call(A, attempt=1))


def test_calls_that_do_not_fit_are_refused_by_name() -> None:
    ledger = opened(round_=3)
    assert refused(ledger, call(C, 3)) == "NOT_IN_STEP"
    assert refused(ledger, call(A, 2)) == "WRONG_ROUND"
    assert refused(ledger, call(A, 4)) == "WRONG_ROUND"
    assert refused(ledger, call(A, 3, version=Version(1, 3))) == "WRONG_VERSION"
    with pytest.raises(RefusalError, match="WRONG_VERSION: these are not the weights I have"):
        ledger.check_version(Version(1, 3))
    ledger.check_version(FIRST)


def test_the_claim_is_told_once_it_is_sealed_and_does_not_change() -> None:
    ledger = opened()
    ledger.count(call(A))
    assert ledger.status == Status(FIRST, 1, Phase.OPEN)
    assert ledger.obey(Seal(FIRST, 1)) is Effect.NONE
    assert refused(ledger, call(B)) == "SEALED"
    assert not ledger.count(call(A))  # a repeat is still answered
    assert ledger.status == Status(FIRST, 1, Phase.SEALED, frozenset({A}))


def test_what_was_computed_when_the_round_ended_is_thrown_away() -> None:
    ledger = opened()
    assert ledger.admits(call(A))
    ledger.obey(Open(FIRST, 2, IDS, keeps=True))
    assert refused(ledger, call(A)) == "WRONG_ROUND"
    assert ledger.count(call(A, 2))


def test_a_new_round_keeps_the_claim_or_clears_it() -> None:
    ledger = opened()
    ledger.count(call(A))
    ledger.obey(Seal(FIRST, 1))
    assert ledger.obey(Open(FIRST, 2, IDS, keeps=True)) is Effect.NONE
    assert not ledger.count(call(A, 2))
    assert ledger.obey(Open(FIRST, 3, IDS, keeps=False)) is Effect.CLEAR
    assert ledger.count(call(A, 3))


@pytest.mark.parametrize(
    "order",
    [
        Open(FIRST, 1, IDS, keeps=False),
        Open(FIRST, 0, IDS, keeps=False),
        Open(Version(1, 1), 2, IDS, keeps=False),
        Seal(FIRST, 0),
        Seal(Version(1, 1), 1),
        Commit(FIRST, 1, (("r", 1),)),  # it is not sealed
        Join(FIRST, "other"),
        Join(NOTHING, "other"),
    ],
)
def test_orders_that_do_not_fit_change_nothing(order: Open | Seal | Commit | Join) -> None:
    ledger = opened()
    ledger.count(call(A))
    assert ledger.obey(order) is Effect.NONE
    assert ledger.status == Status(FIRST, 1, Phase.OPEN)
    assert not ledger.count(call(A))


@pytest.mark.parametrize(
    "order", [Commit(FIRST, 1, (("other", 2),)), Commit(FIRST, 2, (("r", 2),))]
)
def test_a_commit_of_others_or_of_another_round_is_passed_over(order: Commit) -> None:
    ledger = opened()
    ledger.obey(Seal(FIRST, 1))
    assert ledger.obey(order) is Effect.NONE
    assert ledger.status.phase is Phase.SEALED


def test_an_average_moves_the_weights_on_once() -> None:
    ledger = averaging()
    assert ledger.obey(COMMIT) is Effect.NONE
    assert ledger.averaged(1)
    assert ledger.status == Status(Version(1, 1), 1, Phase.OPEN)
    assert not ledger.averaged(1)
    ledger.obey(Open(Version(1, 1), 2, IDS, keeps=True))
    assert ledger.count(call(A, 2, version=Version(1, 1)))  # nothing of the former step is left


def test_a_failed_average_leaves_the_claim_sealed() -> None:
    ledger = averaging()
    ledger.average_failed(1)
    assert ledger.status == Status(FIRST, 1, Phase.FAILED, IDS)
    assert not ledger.averaged(1)
    assert ledger.obey(COMMIT) is Effect.NONE


def test_an_average_that_a_new_round_overtook_is_not_applied() -> None:
    ledger = averaging()
    ledger.obey(Open(FIRST, 2, IDS, keeps=True))
    ledger.average_failed(1)
    assert not ledger.averaged(1)
    assert ledger.status == Status(FIRST, 2, Phase.OPEN)


def test_a_replica_out_of_step_downloads_newer_weights_only() -> None:
    ledger = averaging()
    assert ledger.obey(Join(Version(1, 2), "other")) is Effect.DOWNLOAD
    assert ledger.downloaded(Version(1, 2))
    assert not ledger.averaged(1)
    assert not ledger.downloaded(Version(1, 1))
    assert ledger.status == Status(Version(1, 2), 2, Phase.OPEN)


def test_a_withdrawn_attempt_is_not_counted_but_a_later_one_is() -> None:
    ledger = opened()
    ledger.withdraw(Withdrawal(A, 1, attempt=2))
    ledger.withdraw(Withdrawal(A, 1, attempt=0))  # came late
    ledger.withdraw(Withdrawal(B, 0, attempt=9))  # of another round
    assert refused(ledger, call(A, attempt=2)) == "WITHDRAWN"
    assert ledger.count(call(A, attempt=3)) and ledger.count(call(B))
    ledger.withdraw(Withdrawal(B, 1, attempt=9))
    assert not ledger.count(call(B))  # what is counted stays counted
