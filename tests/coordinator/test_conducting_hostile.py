"""A hostile trainer's words stay small in the coordinator's memory, and none of them ends its plan."""

from __future__ import annotations

from seshu_swarm.pipeline.protocol import MAX_FIRST_NUMBER, MAX_MEMBERS, Enlist, FedMessage, of_feed
from tests.coordinator.conducted import NUM_STAGES, PLAN, Scene, name_of


def test_the_greatest_first_number_can_be_told_of() -> None:
    scene = Scene()
    for group in (0, 1, NUM_STAGES):
        scene.enlist("abt"[group], group)
    asked = Enlist(plan=PLAN, name=name_of("t"), is_trainer=True, number=MAX_FIRST_NUMBER)
    scene.course.enlist(asked, "tpeer")
    scene.course.begin()
    feed = of_feed(scene.course.conductor.feed, [[]] * (NUM_STAGES + 1))
    assert feed.ids == {name_of("t"): [MAX_FIRST_NUMBER + i for i in range(4)]}


def test_only_what_was_asked_of_the_step_is_kept() -> None:
    scene = Scene()
    a, _, t = (scene.enlist("abt"[group], group).member for group in (0, 1, NUM_STAGES))
    scene.course.begin()
    own = {i.number for i in scene.course.conductor.ids}
    for turn in range(3):
        strangers = {f"x#{1_000 * turn + i:08x}": [min(own)] for i in range(999)}
        table = strangers | {a.name: list(range(5_000))}
        word = FedMessage(
            step=0,
            rounds=[-1] * (NUM_STAGES + 1),
            asked=[table, {}, {a.name: [min(own)]}],
            nats=0.0,
            tokens=0,
        )
        scene.course.hear(t, word)
    assert t.asked[0, a.name] == own
    assert len(t.asked) == MAX_MEMBERS and (NUM_STAGES, a.name) not in t.asked
