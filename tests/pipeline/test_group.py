"""The replicas of one stage: which claims count, and what follows when something fails."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.pipeline.group import Ids, Settled, StageGroup, StagePhase, settle
from seshu_swarm.pipeline.messages import (
    FIRST,
    NOTHING,
    Commit,
    Join,
    MicrobatchId,
    Open,
    Phase,
    Seal,
    StageFeed,
    Status,
    Version,
)

A, B, C, D = (MicrobatchId("t", number) for number in range(4))
ALL = frozenset({A, B, C, D})
STEPPED = Version(1, 1)


def ids(*some: MicrobatchId) -> Ids:
    return frozenset(some)


def sealed(round_: int, *claim: MicrobatchId, phase: Phase = Phase.SEALED) -> Status:
    return Status(FIRST, round_, phase, frozenset(claim))


def stepped(version: Version = STEPPED) -> Status:
    return Status(version, version.round, Phase.OPEN)


def feeding(*names: str) -> StageGroup:
    group = StageGroup()
    group.begin(ALL)
    for name in names:
        group.heard(name, Status(FIRST, 1, Phase.OPEN))
    return group


def committing() -> StageGroup:
    group = feeding("r", "s")
    group.all_fed()
    group.heard("r", sealed(1, A, B))
    group.heard("s", sealed(1, C, D))
    assert group.phase is StagePhase.READY
    group.commit()
    return group


@pytest.mark.parametrize(
    ("claims", "kept", "missing"),
    [
        ({"r": ids(A, B), "s": ids(C, D)}, {"r", "s"}, ids()),
        ({"r": ids(A), "s": ids(C, D)}, {"r", "s"}, ids(B)),
        ({"r": ids(A, B), "s": ids(B, C, D)}, {"s"}, ids(A)),  # the larger one stays
        ({"s": ids(A, B), "r": ids(B, C)}, {"r"}, ids(A, D)),  # then the name decides
        ({"r": ALL, "s": ids(D), "u": ids()}, {"r", "u"}, ids()),
        ({"r": ids(A, MicrobatchId("x", 0)), "s": ids(B)}, {"s"}, ids(A, C, D)),
        ({}, set(), ALL),
    ],
)
def test_which_claims_count(claims: dict[str, Ids], kept: set[str], missing: Ids) -> None:
    assert settle(ALL, claims) == Settled(frozenset(kept), missing)


@given(
    st.dictionaries(
        st.text("rstuv", min_size=1, max_size=2), st.frozensets(st.sampled_from([*ALL]))
    )
)
def test_what_is_kept_is_disjoint_and_with_what_is_missing_the_list(claims: dict[str, Ids]) -> None:
    settled = settle(ALL, claims)
    kept = [claims[name] for name in settled.kept]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(kept, 2))
    assert sorted([*itertools.chain(*kept), *settled.missing]) == sorted(ALL)


def test_a_step_in_which_nothing_fails() -> None:
    group = feeding("r", "s")
    assert group.feed == StageFeed(FIRST, 1, ALL)
    assert group.order_for("r") is None
    group.all_fed()
    assert group.order_for("r") == Seal(FIRST, 1)
    group.heard("r", sealed(1, A, B))
    assert group.phase is StagePhase.SEALING
    group.heard("s", sealed(1, C, D))
    assert group.order_for("r") is None  # ready, and other stages may not be
    group.commit()
    assert group.order_for("s") == Commit(FIRST, 1, (("r", 2), ("s", 2)))
    group.heard("r", stepped())
    assert group.version == FIRST  # the other one may still need this step
    group.heard("s", stepped())
    assert (group.phase, group.version) == (StagePhase.DONE, STEPPED)
    group.begin(ALL)
    assert group.order_for("r") == Open(STEPPED, 2, ALL, keeps=False)


def test_a_lost_claim_is_missing_in_the_next_round() -> None:
    group = feeding("r", "s")
    group.all_fed()
    group.heard("r", sealed(1, A, B))
    group.lost("s")
    assert group.feed == StageFeed(FIRST, 2, ids(C, D))
    assert group.order_for("r") == Open(FIRST, 2, ALL, keeps=True)


def test_of_two_that_counted_the_same_one_begins_again() -> None:
    group = feeding("r", "s")
    group.all_fed()
    group.heard("r", sealed(1, A, B, C))
    group.heard("s", sealed(1, C, D))
    assert group.feed == StageFeed(FIRST, 2, ids(D))
    assert group.order_for("r") == Open(FIRST, 2, ALL, keeps=True)
    assert group.order_for("s") == Open(FIRST, 2, ALL, keeps=False)


def test_a_dropped_claim_costs_a_round_even_if_nothing_is_missing() -> None:
    """So that it can take part in the average."""
    group = feeding("r", "s")
    group.all_fed()
    group.heard("r", sealed(1, *ALL))
    group.heard("s", sealed(1, D))
    assert group.feed == StageFeed(FIRST, 2, ids())


def test_a_replica_back_after_its_claim_was_given_up_begins_with_nothing() -> None:
    group = feeding("r", "s")
    group.all_fed()
    group.heard("r", sealed(1, A, B))
    group.lost("s")
    group.heard("s", sealed(1, C, D))
    assert group.order_for("s") == Open(FIRST, 2, ALL, keeps=False)


def test_a_member_lost_while_other_stages_are_not_ready() -> None:
    group = feeding("r", "s")
    group.all_fed()
    group.heard("r", sealed(1, A, B))
    group.heard("s", sealed(1, C, D))
    group.lost("r")
    assert group.feed == StageFeed(FIRST, 2, ids(A, B))


def test_a_failed_average_is_tried_again_with_the_same_claims() -> None:
    group = committing()
    group.heard("s", sealed(1, C, D, phase=Phase.AVERAGING))
    group.heard("r", sealed(1, A, B, phase=Phase.FAILED))
    assert group.phase is StagePhase.COMMITTING  # it may still get there
    group.heard("s", sealed(1, C, D, phase=Phase.FAILED))
    assert group.feed == StageFeed(FIRST, 2, ids())
    assert group.order_for("r") == Open(FIRST, 2, ALL, keeps=True)


def test_a_member_lost_before_the_average_has_its_ids_replayed() -> None:
    group = committing()
    group.heard("s", sealed(1, C, D, phase=Phase.AVERAGING))
    group.heard("r", sealed(1, A, B, phase=Phase.FAILED))
    group.lost("s")
    assert group.feed == StageFeed(FIRST, 2, ids(C, D))


def test_all_members_lost_and_others_there() -> None:
    group = committing()
    group.heard("u", Status(FIRST, 0, Phase.OPEN))
    for name, claim in (("r", (A, B)), ("s", (C, D))):
        group.heard(name, sealed(1, *claim, phase=Phase.AVERAGING))
    group.lost("r")
    assert group.phase is StagePhase.COMMITTING
    group.lost("s")
    assert group.feed == StageFeed(FIRST, 2, ALL)
    assert group.order_for("u") == Open(FIRST, 2, ALL, keeps=False)


def test_what_one_member_applied_is_committed_and_the_other_joins() -> None:
    group = committing()
    group.heard("r", stepped())
    group.heard("s", sealed(1, C, D, phase=Phase.FAILED))
    assert group.order_for("s") == Join(STEPPED, "r")
    group.heard("s", stepped())
    assert group.phase is StagePhase.DONE


def test_a_step_is_not_done_while_a_living_member_has_the_old_weights() -> None:
    """If the one that applied it dies now, the other does the step again."""
    group = committing()
    group.heard("r", stepped())
    group.heard("s", sealed(1, C, D, phase=Phase.FAILED))
    group.lost("r")
    assert group.feed == StageFeed(FIRST, 2, ids(A, B))


def test_who_applied_and_was_thought_lost_is_believed_while_the_step_is_not_done() -> None:
    group = committing()
    group.lost("r")
    group.heard("s", sealed(1, C, D, phase=Phase.FAILED))
    assert group.round == 2
    group.heard("r", stepped())
    assert group.order_for("s") == Join(STEPPED, "r")


def test_of_two_averages_of_one_step_the_later_counts() -> None:
    """One that was thought lost came through with the first; the rest did the step again."""
    group = committing()
    group.lost("r")
    group.heard("s", sealed(1, C, D, phase=Phase.FAILED))
    group.heard("s", Status(FIRST, 2, Phase.OPEN))
    group.all_fed()
    group.heard("s", sealed(2, *ALL))
    group.commit()
    group.heard("s", stepped(Version(1, 2)))
    assert group.version == Version(1, 2)
    group.heard("r", stepped(Version(1, 1)))
    assert group.order_for("r") == Join(Version(1, 2), "s")


def test_a_replica_without_weights_takes_no_part_until_it_is_in_step() -> None:
    group = feeding("r")
    group.heard("new", Status(NOTHING, -1, Phase.OPEN))
    assert group.order_for("new") == Join(FIRST, "r")
    group.all_fed()
    group.heard("r", sealed(1, *ALL))
    assert group.phase is StagePhase.READY  # nobody waited for it
    group.heard("new", Status(FIRST, 0, Phase.OPEN))
    assert group.order_for("new") is None  # too late for this step
    group.commit()
    group.heard("r", stepped())
    assert group.order_for("new") == Join(STEPPED, "r")


def test_what_was_said_before_is_passed_over() -> None:
    group = feeding("r", "s")
    group.all_fed()
    group.heard("r", sealed(1, A, B))
    group.heard("r", Status(FIRST, 1, Phase.OPEN))
    group.heard("s", sealed(1, C, D))
    assert group.phase is StagePhase.READY


def test_ids_that_nobody_can_feed_leave_the_list() -> None:
    group = feeding("r", "s")
    group.all_fed()
    group.heard("r", sealed(1, A, B))
    group.heard("s", sealed(1, C, D))
    group.give_up(ids(D))
    assert group.feed == StageFeed(FIRST, 2, ids(C))
    assert group.order_for("s") == Open(FIRST, 2, ids(A, B, C), keeps=False)
