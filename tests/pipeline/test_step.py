"""A trainer's microbatches: their way, and what is done again."""

from __future__ import annotations

from seshu_swarm.pipeline.messages import FIRST, Call, Feed, MicrobatchId, StageFeed, Withdrawal
from seshu_swarm.pipeline.step import Kind, Task, TrainerStep

A, B, C = (MicrobatchId("t", number) for number in range(3))
OTHERS = MicrobatchId("u", 0)
FORWARD, HEAD, BACKWARD = Kind


def feed(*rounds: int, ids: tuple[MicrobatchId, ...] = (A, OTHERS), missing: int = 0) -> Feed:
    """All ids are missing in round 1; later ones lack `missing` of them."""
    listed = frozenset(ids)
    stages = [StageFeed(FIRST, r, listed if r == 1 else frozenset(ids[:missing])) for r in rounds]
    return Feed(0, listed, tuple(stages))


def step_of(*ids: MicrobatchId, max_in_flight: int = 9, stages: int = 2) -> TrainerStep[str]:
    microbatches = {id_: f"x{id_.number}" for id_ in ids}
    told = feed(*[1] * stages, ids=(*ids, OTHERS))
    return TrainerStep(told, microbatches, max_in_flight=max_in_flight)


def do(step: TrainerStep[str], task: Task, value: str = "v", round_: int = 1) -> None:
    step.sent(task, "r")
    step.answered(task, "r", value, round_=round_)


def test_there_and_back_through_two_stages() -> None:
    step = step_of(A)
    seen = []
    while ready := step.ready():
        [task] = ready
        seen.append((task.kind, task.stage, *step.inputs(task)))
        do(step, task, f"{task.kind.name[0]}{task.stage}")
    assert seen == [
        (FORWARD, 0, "x0", None),
        (FORWARD, 1, "F0", None),
        (HEAD, 2, "F1", None),
        (BACKWARD, 1, "F0", "H2"),
        (BACKWARD, 0, "x0", "B1"),
    ]
    assert step.fed == (1, 1)
    assert step.num_under_way == 0


def test_it_is_fed_only_when_all_its_ids_are_counted_there() -> None:
    step = step_of(A, B, stages=1)
    assert step.fed == (-1,)
    for id_ in (A, B):
        assert step.fed == (-1,)
        for kind, stage in ((FORWARD, 0), (HEAD, 1), (BACKWARD, 0)):
            do(step, Task(kind, stage, id_))
    assert step.fed == (1,)


def test_few_are_under_way_and_those_are_brought_home_first() -> None:
    step = step_of(A, B, C, max_in_flight=2, stages=1)
    assert step.ready() == [Task(FORWARD, 0, A), Task(FORWARD, 0, B)]
    do(step, Task(FORWARD, 0, A))
    do(step, Task(HEAD, 1, A))
    step.sent(Task(FORWARD, 0, B), "r")
    assert step.ready() == [Task(BACKWARD, 0, A)]
    do(step, Task(BACKWARD, 0, A))
    assert step.ready() == [Task(FORWARD, 0, C)]


def test_a_lost_count_is_replayed_at_that_stage_alone() -> None:
    step = step_of(A)
    while ready := step.ready():
        do(step, ready[0], f"{ready[0].kind.name[0]}{ready[0].stage}")
    step.follow(feed(1, 2, missing=1))
    replay = Task(BACKWARD, 1, A)
    assert step.ready() == [replay]
    assert step.inputs(replay) == ("F0", "H2")
    assert step.fed == (1, -1)
    assert step.sent(replay, "s") == Call(A, FIRST, 2, attempt=1)
    step.answered(replay, "s", "again", round_=2)
    assert (step.ready(), step.fed) == ([], (1, 2))


def test_a_new_round_that_lacks_nothing_of_it() -> None:
    step = step_of(A)
    while ready := step.ready():
        do(step, ready[0])
    step.follow(feed(1, 2, ids=(OTHERS, A), missing=1))
    assert (step.ready(), step.fed) == ([], (1, 2))


def test_an_answer_of_an_older_round_counts_nothing_but_its_gradient_serves() -> None:
    step = step_of(A)
    for kind, stage in ((FORWARD, 0), (FORWARD, 1), (HEAD, 2)):
        do(step, Task(kind, stage, A))
    back = Task(BACKWARD, 1, A)
    step.sent(back, "r")
    step.follow(feed(1, 2, missing=1))
    step.sent(back, "s")
    step.answered(back, "r", "late", round_=1)
    assert step.fed == (-1, -1)
    assert step.ready() == [Task(BACKWARD, 0, A)]
    assert step.inputs(Task(BACKWARD, 0, A)) == ("x0", "late")


def test_a_failure_makes_it_ready_again_and_withdraws_the_attempt() -> None:
    step = step_of(A, stages=1)
    for kind, stage in ((FORWARD, 0), (HEAD, 1)):
        do(step, Task(kind, stage, A))
    back = Task(BACKWARD, 0, A)
    step.sent(back, "r")
    assert step.ready() == []
    assert step.failed(back, "r") == [("r", Withdrawal(A, 1, attempt=0))]
    assert step.failed(back, "r") == []
    assert step.ready() == [back]
    assert step.sent(back, "r") == Call(A, FIRST, 1, attempt=1)


def test_who_else_was_asked_is_told_not_to_count() -> None:
    step = step_of(A, stages=1)
    for kind, stage in ((FORWARD, 0), (HEAD, 1)):
        do(step, Task(kind, stage, A))
    back = Task(BACKWARD, 0, A)
    step.sent(back, "r")
    step.sent(back, "s")
    assert step.answered(back, "s", "g", round_=1) == [("r", Withdrawal(A, 1, attempt=0))]


def test_ids_that_left_the_list_are_over() -> None:
    step = step_of(A, B, stages=1)
    step.follow(feed(1, ids=(B, OTHERS)))
    assert step.ready() == [Task(FORWARD, 0, B)]
    assert step.answered(Task(FORWARD, 0, A), "r", "v") == []


def test_the_feed_of_another_step_changes_nothing() -> None:
    step = step_of(A, stages=1)
    step.follow(Feed(1, frozenset(), (StageFeed(FIRST, 5, frozenset()),)))
    assert step.ready() == [Task(FORWARD, 0, A)]
