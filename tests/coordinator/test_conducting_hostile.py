"""A hostile trainer's words stay small in the coordinator's memory, and none of them ends its plan."""

from __future__ import annotations

import pytest

from seshu_swarm.coordinator.conducting.course import MAX_NUMBERS
from seshu_swarm.coordinator.conducting.waiting import BEHIND_SECONDS, PATIENCE_SECONDS, Waiting
from seshu_swarm.errors import RefusalError
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import NOTHING, Phase, Status
from seshu_swarm.pipeline.protocol.converting import of_feed, of_status
from seshu_swarm.pipeline.protocol.fields import MAX_MEMBERS
from seshu_swarm.pipeline.protocol.steps import MAX_FIRST_NUMBER, Complaint, Enlist, FedMessage
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


def test_a_name_is_of_one_group() -> None:
    """In its former group nobody would miss it: that group would be sealed never more."""
    scene = Scene()
    for letter, group in {"a": 0, "b": 0, "c": 1, "t": NUM_STAGES}.items():
        scene.enlist(letter, group)
    with pytest.raises(RefusalError, match="NOT_OWNER"):
        scene.course.enlist(Enlist(plan=PLAN, name=name_of("a"), is_trainer=True), "apeer")
    scene.course.begin()
    scene.settle()
    t = scene.actors[name_of("t")]
    scene.feed(t, {0: [name_of("a"), name_of("b")], 1: [name_of("c")]})
    scene.settle()
    assert scene.course.made == 1


def test_who_fed_rounds_that_never_were_is_sent_away() -> None:
    """Else its ids are missing, and never fed, in one round after another."""
    scene = Scene()
    for letter, group in {"a": 0, "c": 1, "t": NUM_STAGES, "u": NUM_STAGES}.items():
        scene.enlist(letter, group)
    scene.course.begin()
    scene.settle()
    liar = scene.actors.pop(name_of("u"))
    word = FedMessage(step=0, rounds=[1 << 40] * 3, asked=[{}, {}], nats=0.0, tokens=0)
    with pytest.raises(RefusalError, match="AVOIDED"):
        scene.course.hear(liar.member, word)
    scene.feed(scene.actors[name_of("t")], {0: [name_of("a")], 1: [name_of("c")]})
    scene.settle()
    assert scene.course.made == 1


def test_names_of_those_who_left_are_forgotten_in_time() -> None:
    scene = Scene()
    stays = scene.enlist("t", NUM_STAGES).member
    for life in range(2 * MAX_NUMBERS):
        name = f"upeer#{life:08x}"
        scene.course.enlist(Enlist(plan=PLAN, name=name, is_trainer=True, number=life), "upeer")
        scene.course.roster.remove(name)
    assert len(scene.course.numbers) <= MAX_NUMBERS and stays.name in scene.course.numbers
    assert scene.course.numbers[name] == 2 * MAX_NUMBERS - 1


def test_a_peer_with_a_member_that_keeps_up_does_not_hold_up_steps_for_another() -> None:
    scene = Scene()
    for letter, group in {"a": 0, "c": 1, "t": NUM_STAGES}.items():
        scene.enlist(letter, group)
    second = Enlist(plan=PLAN, name="apeer#00000002", is_trainer=False, group=0)
    behind = scene.course.enlist(second, "apeer")
    scene.course.hear(behind, of_status(StageLedger(behind.name, NOTHING).status))
    waiting, waited = Waiting(scene.course), 0.0
    waiting.waits()
    scene.clock.now += 2 * BEHIND_SECONDS
    while waiting.waits() and waited < 100:
        scene.clock.now += 1
        waited += 1
    assert waited <= PATIENCE_SECONDS + 2


def test_all_trainers_may_leave_a_step() -> None:
    """Nothing is averaged of no ids, and the next trainer's step begins from the same weights."""
    scene = Scene()
    for letter, group in {"a": 0, "b": 0, "c": 1, "t": NUM_STAGES, "u": NUM_STAGES}.items():
        scene.enlist(letter, group)
    scene.course.begin()
    scene.settle()
    scene.feed(scene.actors[name_of("t")], {0: [name_of("a")], 1: [name_of("c")]})
    for letter in "tu":
        actor = scene.actors.pop(name_of(letter))
        scene.course.send_away(actor.member, "a test")
    scene.settle()
    assert scene.course.conductor.is_done and scene.course.made == 0
    v = scene.enlist("v", NUM_STAGES)
    scene.course.begin()
    scene.settle()
    scene.feed(v, {0: [name_of("a"), name_of("b")], 1: [name_of("c")]})
    scene.settle()
    assert scene.course.made == 1 and {i.trainer for i in scene.course.conductor.ids} == {
        name_of("v")
    }


def test_complaints_do_not_fill_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene()
    b, t = scene.enlist("b", 1).member, scene.enlist("t", NUM_STAGES).member
    for _ in range(2):
        scene.course.hear(t, Complaint(name=b.name, reason="slow"))
    for life in range(1_000):
        scene.course.hear(t, Complaint(name=f"xpeer#{life:08x}", reason="never there"))
    assert capsys.readouterr().out.count("complains") == 1


def test_a_claim_that_comes_last_and_settles_the_round_is_looked_at_first() -> None:
    scene = Scene()
    for letter, place in {"a": 0, "b": 0, "c": 1, "t": NUM_STAGES}.items():
        scene.enlist(letter, place)
    course, liar, honest = scene.course, scene.actors[name_of("a")], scene.actors[name_of("b")]
    course.begin()
    scene.settle()
    scene.feed(scene.actors[name_of("t")], {0: [honest.member.name], 1: [name_of("c")]})
    scene.obey(honest)
    scene.say(honest)
    group, ids = course.conductor.groups[0], course.conductor.ids
    round_ = group.round
    lie = Status(group.version, round_, Phase.SEALED, ids)
    course.hear(liar.member, of_status(lie))
    assert liar.member.name not in course.roster
    assert group.round == round_, "what the other one claims is whole"
    assert group.members == {honest.member.name}
