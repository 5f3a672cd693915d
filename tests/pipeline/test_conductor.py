"""One list for all stages: when it is final, and what leaves it before."""

from __future__ import annotations

import pytest

from seshu_swarm.errors import UsageError
from seshu_swarm.pipeline.conductor import Conductor
from seshu_swarm.pipeline.group import StagePhase
from seshu_swarm.pipeline.messages import FIRST, MicrobatchId, Phase, Status, Version

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
