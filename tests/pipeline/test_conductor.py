"""One list for all stages: when it is final, and what leaves it before."""

from __future__ import annotations

import pytest

from seshu_swarm.errors import UsageError
from seshu_swarm.pipeline.conductor import Conductor
from seshu_swarm.pipeline.group import StagePhase
from seshu_swarm.pipeline.messages import (
    FIRST,
    NOTHING,
    Join,
    MicrobatchId,
    Open,
    Phase,
    Status,
    Version,
)

A, B, X = MicrobatchId("t", 0), MicrobatchId("t", 1), MicrobatchId("u", 0)
ALL = frozenset({A, B, X})


def begun() -> Conductor:
    """Two stages, one replica at each; two trainers."""
    conductor = Conductor(2)
    conductor.begin({"t": [A, B], "u": [X]})
    for stage in range(2):
        conductor.heard(stage, f"r{stage}", Status(FIRST, 1, Phase.OPEN))
    return conductor


def seal(conductor: Conductor, stage: int, round_: int = 1) -> None:
    claim = frozenset(conductor.groups[stage].ids)
    conductor.heard(stage, f"r{stage}", Status(FIRST, round_, Phase.SEALED, claim))


def phases(conductor: Conductor) -> list[str]:
    return [group.phase.name for group in conductor.groups]


def ready() -> Conductor:
    conductor = begun()
    conductor.fed("t", 0, (1, 1))
    conductor.fed("u", 0, (1, 1))
    seal(conductor, 0)
    return conductor


def test_a_stage_is_sealed_when_every_trainer_has_fed_it() -> None:
    conductor = begun()
    conductor.fed("t", 0, (1, 1))
    conductor.fed("u", 0, (-1, 1))
    assert phases(conductor) == ["FEEDING", "SEALING"]
    conductor.fed("u", 1, (1, 1))  # of another step
    conductor.fed("stranger", 0, (1, 1))
    assert phases(conductor) == ["FEEDING", "SEALING"]
    conductor.fed("u", 0, (1, -1))  # overtaken by the newer one
    assert phases(conductor) == ["SEALING", "SEALING"]


def test_no_stage_commits_before_all_are_ready() -> None:
    conductor = ready()
    assert phases(conductor) == ["READY", "SEALING"]
    seal(conductor, 1)
    assert phases(conductor) == ["COMMITTING", "COMMITTING"]
    for stage in range(2):
        conductor.heard(stage, f"r{stage}", Status(Version(1, 1), 1, Phase.OPEN))
    assert conductor.is_done


def test_a_lost_trainer_takes_its_ids_with_it_at_every_stage() -> None:
    conductor = ready()
    conductor.trainer_lost("u")
    assert conductor.ids == ALL - {X}
    # Stage 0 had counted X: all it had is fed again.
    assert conductor.groups[0].feed.missing == {A, B}
    assert conductor.groups[1].ids == {A, B}
    conductor.fed("t", 0, (2, 1))
    seal(conductor, 1)
    assert phases(conductor) == ["SEALING", "READY"]
    conductor.heard(0, "r0", Status(FIRST, 2, Phase.SEALED, frozenset({A, B})))
    assert phases(conductor) == ["COMMITTING", "COMMITTING"]
    assert conductor.forfeited == []


def test_a_final_list_does_not_change_and_what_is_lost_twice_is_named() -> None:
    conductor = ready()
    seal(conductor, 1)
    conductor.trainer_lost("u")
    assert conductor.ids == ALL
    conductor.heard(1, "s1", Status(FIRST, 0, Phase.OPEN))
    conductor.lost(1, "r1")
    assert conductor.forfeited == [(1, X)]
    assert conductor.groups[1].feed.missing == {A, B}
    assert conductor.groups[0].phase is StagePhase.COMMITTING


@pytest.mark.parametrize("offers", [{}, {"t": []}, {"t": [X]}, {"t": [A, B], "u": [A]}], ids=str)
def test_a_step_is_made_of_what_trainers_have(offers: dict[str, list[MicrobatchId]]) -> None:
    with pytest.raises(UsageError, match="step 0 of"):
        Conductor(1).begin(offers)


def test_a_step_begins_after_the_last_one() -> None:
    with pytest.raises(UsageError, match="a step follows a finished one"):
        begun().begin({"t": [A]})


def test_a_list_that_was_not_final_is_given_up() -> None:
    """What a conductor wrote down before it was killed, read by the next one."""
    books = ready().books
    assert (books.is_final, books.versions) == (False, (FIRST, FIRST))
    again = Conductor.resumed(books, round_=100)
    assert again.is_done
    assert again.trainers == []
    again.begin({"t": [MicrobatchId("t", 7)]})
    assert again.step == 1
    assert [told.version for told in again.feed.stages] == [FIRST, FIRST]
    assert [told.round for told in again.feed.stages] == [101, 101]
    # A replica that had counted begins with nothing.
    again.heard(0, "r0", Status(FIRST, 1, Phase.SEALED, ALL))
    order = again.groups[0].order_for("r0")
    assert order == Open(FIRST, 101, frozenset({MicrobatchId("t", 7)}), keeps=False)


def final() -> Conductor:
    conductor = ready()
    seal(conductor, 1)
    return conductor


def test_a_final_list_is_committed_by_the_next_conductor() -> None:
    books = final().books
    assert books.is_final
    again = Conductor.resumed(books, round_=100)
    assert again.trainers == ["t", "u"]
    # Stage 0 had committed, stage 1 was still averaging.
    again.heard(0, "r0", Status(Version(1, 1), 1, Phase.OPEN))
    again.heard(1, "r1", Status(FIRST, 1, Phase.AVERAGING, ALL))
    assert phases(again) == ["DONE", "FEEDING"]
    assert again.groups[1].feed.missing == ALL
    again.fed("t", 0, (101, 101))
    again.fed("u", 0, (101, 101))
    seal(again, 1, round_=101)
    assert phases(again) == ["DONE", "COMMITTING"]
    again.heard(1, "r1", Status(Version(1, 101), 101, Phase.OPEN))
    assert again.is_done
    assert again.books.versions == (Version(1, 1), Version(1, 101))
    assert not again.books.ids


def test_an_average_of_the_last_conductor_may_still_arrive() -> None:
    again = Conductor.resumed(final().books, round_=100)
    for stage in range(2):
        again.heard(stage, f"r{stage}", Status(Version(1, 1), 1, Phase.OPEN))
    assert again.is_done


def test_a_stage_without_replicas_goes_on_from_stored_weights() -> None:
    conductor = begun()
    conductor.lost(1, "r1")
    version = conductor.restore(1, "keeper")
    assert version == Version(0, 2)
    conductor.heard(1, "r2", Status(NOTHING, -1, Phase.OPEN))
    assert conductor.groups[1].order_for("r2") == Join(version, "keeper")
    conductor.heard(1, "r2", Status(version, 2, Phase.OPEN))
    assert conductor.groups[1].order_for("r2") == Open(version, 3, ALL, keeps=False)
    # Who comes back with the weights that were thought lost joins as well.
    conductor.heard(1, "r1", Status(FIRST, 1, Phase.OPEN))
    assert conductor.groups[1].order_for("r1") == Join(version, "r2")
    assert conductor.books.versions == (FIRST, version)


def test_nobody_is_ahead_of_the_orders() -> None:
    conductor = ready()
    group = conductor.groups[0]
    applied = Status(Version(1, 1), 1, Phase.OPEN)
    assert group.can_be(Status(FIRST, 1, Phase.SEALED, ALL))
    assert group.can_be(Status(NOTHING, -1, Phase.OPEN))
    assert not group.can_be(applied)
    assert not group.can_be(Status(FIRST, 2, Phase.OPEN))
    seal(conductor, 1)
    assert group.can_be(applied)
    assert not group.can_be(Status(Version(2, 1), 1, Phase.OPEN))
    assert not group.can_be(Status(Version(1, 2), 2, Phase.OPEN))
    # The next conductor does not know which rounds of the step were tried.
    again = Conductor.resumed(conductor.books, round_=100).groups[0]
    assert again.can_be(applied)
    again.heard("r0", applied)
    assert not again.can_be(Status(Version(2, 1), 1, Phase.OPEN))
