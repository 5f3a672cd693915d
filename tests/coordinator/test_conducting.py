"""A plan under way: who is believed, who is lost, what a step is made of. No sockets."""

from __future__ import annotations

import pytest

from seshu_swarm.coordinator.conducting.journal import Entry
from seshu_swarm.coordinator.conducting.roster import (
    AVOID_SECONDS,
    COMPLAINT_SECONDS,
    STARTING_SECONDS,
)
from seshu_swarm.coordinator.conducting.waiting import GONE_SECONDS, PATIENCE_SECONDS, Waiting
from seshu_swarm.errors import PeerLostError, ProtocolError, RefusalError
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import (
    NOTHING,
    Call,
    Join,
    MicrobatchId,
    Phase,
    Status,
    Version,
)
from seshu_swarm.pipeline.protocol.converting import of_status
from seshu_swarm.pipeline.protocol.steps import Complaint, Enlist, FedMessage
from tests.coordinator.conducted import NUM_STAGES, PLAN, Scene, name_of

A, B, C, T, U = map(name_of, "abctu")


def full() -> Scene:
    """Stage 0 of `a` and `b`, stage 1 of `c`, trainers `t` and `u`."""
    scene = Scene()
    for letter, group in {"a": 0, "b": 0, "c": 1, "t": NUM_STAGES, "u": NUM_STAGES}.items():
        scene.enlist(letter, group)
    return scene


def begun() -> Scene:
    scene = full()
    scene.course.begin()
    scene.settle()
    return scene


def test_steps_are_shared_among_trainers_and_numbered_on() -> None:
    scene = full()
    for step in range(3):
        scene.course.begin()
        mine = [[MicrobatchId(name, 2 * step + i) for i in (0, 1)] for name in (T, U)]
        assert scene.course.conductor.ids == frozenset(mine[0] + mine[1])
        scene.settle()
        for name in (T, U):
            scene.feed(scene.actors[name], {0: [A, B], 1: [C]})
        scene.settle()
        assert scene.course.conductor.is_done
        assert scene.course.made == step + 1
    assert {group.round for group in scene.course.conductor.groups} == {3}
    assert scene.course.conductor.forfeited == []


def test_a_share_that_does_not_come_out_even_is_given_whole() -> None:
    scene = full()
    scene.enlist("v", NUM_STAGES)
    counts = sorted(len(ids) for ids in scene.course.offers().values())
    assert counts == [1, 1, 2]


def test_who_may_enlist() -> None:
    scene = full()
    course = scene.course
    asked = Enlist(plan=PLAN, name=name_of("d"), is_trainer=False)
    # The stage with the fewest replicas.
    assert course.enlist(asked, "dpeer").group == 1
    with pytest.raises(RefusalError, match="NOT_OWNER"):
        course.enlist(asked, "epeer")
    with pytest.raises(RefusalError, match="NOT_TRAINING"):
        course.enlist(asked.model_copy(update={"plan": "f" * 16}), "dpeer")
    with pytest.raises(RefusalError, match="stages 0 to 1"):
        course.enlist(Enlist(plan=PLAN, name="d#00000000", is_trainer=False, group=2), "d")
    for life in range(16):
        course.enlist(Enlist(plan=PLAN, name=f"d#{life:08x}", is_trainer=False), "d")
    with pytest.raises(RefusalError, match="RATE_LIMITED"):
        course.enlist(Enlist(plan=PLAN, name="d#ffffffff", is_trainer=False), "d")


def test_a_trainer_that_comes_again_is_not_asked_for_what_it_gave() -> None:
    scene = full()
    scene.course.enlist(Enlist(plan=PLAN, name=T, is_trainer=True, number=40), "tpeer")
    assert scene.course.offers()[T][0] == MicrobatchId(T, 40)


def test_silence_is_a_loss_and_starting_is_not() -> None:
    scene = begun()
    course = scene.course
    course.enlist(Enlist(plan=PLAN, name=name_of("d"), is_trainer=False, group=0), "dpeer")
    scene.clock.now += 4.9
    for name in (A, C, T):
        scene.say(scene.actors[name])
    scene.clock.now += 0.2
    course.lose()
    assert {member.name for member in course.roster} == {A, C, T, name_of("d")}
    # A lost trainer's ids leave a list that is not final.
    assert {id_.trainer for id_ in course.conductor.ids} == {T}
    scene.clock.now += STARTING_SECONDS
    course.lose()
    assert list(course.roster) == []
    with pytest.raises(PeerLostError):
        scene.say(scene.actors[A])


def test_a_broken_stream_is_a_loss_in_time() -> None:
    scene = begun()
    member = scene.actors[A].member
    member.broken_at = scene.clock.now
    scene.clock.now += 1.4
    scene.course.lose()
    assert A in scene.course.roster
    scene.clock.now += 0.2
    scene.course.lose()
    assert A not in scene.course.roster
    # It comes again under its name and goes on.
    scene.enlist("a", 0, ledger=scene.actors[A].ledger)
    assert A in scene.course.conductor.groups[0].in_step


def test_a_claim_that_nobody_asked_for_is_named_and_avoided(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene = begun()
    for name in (T, U):
        scene.feed(scene.actors[name], {0: [A], 1: [C]})
    # `b` was asked for nothing, and says that it counted all of `t`.
    ids = frozenset(i for i in scene.course.conductor.ids if i.trainer == T)
    scene.obey(scene.actors[B])
    liar = scene.actors[B].member
    round_ = scene.course.conductor.groups[0].round
    scene.course.hear(liar, of_status(Status(Version(0, 0), round_, Phase.SEALED, ids)))
    assert B not in scene.course.roster
    assert f"{B} is avoided for 300 s: claims" in capsys.readouterr().out
    with pytest.raises(RefusalError, match="AVOIDED"):
        scene.enlist("b", 0)
    scene.settle()
    assert scene.course.made == 1
    scene.clock.now += AVOID_SECONDS + 1
    for name in (A, C, T, U):
        scene.say(scene.actors[name])
    scene.enlist("b", 0)


def test_a_claim_of_a_lost_trainer_is_no_lie() -> None:
    """It asked, and was gone before it said so: its ids leave the list, and the claim with them."""
    scene = begun()
    scene.feed(scene.actors[T], {0: [A], 1: [C]})
    feed = scene.course.conductor.feed
    mine = [id_ for id_ in feed.ids if id_.trainer == U]
    for id_ in mine:
        scene.actors[B].ledger.count(Call(id_, feed.stages[0].version, feed.stages[0].round, 0))
    scene.clock.now += 6
    for name in (A, B, C, T):
        scene.say(scene.actors[name])
    scene.course.lose()
    del scene.actors[U]
    scene.settle()
    assert B in scene.course.roster
    scene.feed(scene.actors[T], {0: [A], 1: [C]})
    scene.settle()
    assert scene.course.made == 1


def test_a_trainer_claims_its_own_ids_alone() -> None:
    scene = begun()
    for name in (T, U):
        scene.feed(scene.actors[name], {0: [A, B], 1: [C]})
    group = scene.course.conductor.groups[NUM_STAGES]
    claim = Status(Version(0, 0), group.round, Phase.SEALED, scene.course.conductor.ids)
    scene.course.hear(scene.actors[T].member, of_status(claim))
    assert T not in scene.course.roster


def test_who_is_ahead_of_all_orders_is_avoided() -> None:
    scene = begun()
    with pytest.raises(RefusalError, match="AVOIDED"):
        ahead = Status(Version(7, 1), 1, Phase.OPEN)
        scene.course.hear(scene.actors[A].member, of_status(ahead))
    assert A not in scene.course.roster
    # All of its peer's members go.
    with pytest.raises(RefusalError, match="AVOIDED"):
        scene.course.enlist(Enlist(plan=PLAN, name="apeer#ffffffff", is_trainer=False), "apeer")


@pytest.mark.parametrize(
    "who",
    [(T, U), (T, T, T), (B, B, B), (B, T)],
    ids=["two trainers", "one, thrice", "its twin, thrice", "its twin and a trainer"],
)
def test_complaints_add_up(who: tuple[str, ...]) -> None:
    scene = begun()
    for name in who:
        assert A in scene.course.roster
        scene.course.hear(scene.actors[name].member, Complaint(name=A, reason="NaN"))
    assert A not in scene.course.roster


def test_complaints_are_forgotten_and_replicas_have_none_of_other_stages() -> None:
    scene = begun()
    for name in (T, T, C, C, C):
        scene.course.hear(scene.actors[name].member, Complaint(name=A, reason="slow"))
    scene.clock.now += COMPLAINT_SECONDS + 1
    for actor in scene.actors.values():
        scene.say(actor)
    scene.course.hear(scene.actors[U].member, Complaint(name=A, reason="slow"))
    assert A in scene.course.roster


def test_a_word_on_other_groups_is_refused() -> None:
    scene = begun()
    word = FedMessage(step=0, rounds=[1], asked=[], nats=0.0, tokens=0)
    with pytest.raises(ProtocolError):
        scene.course.hear(scene.actors[T].member, word)
    with pytest.raises(ProtocolError):
        scene.course.hear(scene.actors[A].member, word)


def killed(scene: Scene) -> Scene:
    """Another coordinator that goes on from the books; the members come again with what they have."""
    course = scene.course
    again = Scene(Entry(course.conductor.books, dict(course.numbers)), round_=1 << 32)
    for name, actor in scene.actors.items():
        again.enlist(name[0], actor.member.group, ledger=actor.ledger)
    return again


def test_a_killed_coordinator_gives_up_what_was_not_final() -> None:
    scene = begun()
    scene.feed(scene.actors[T], {0: [A], 1: [C]})
    again = killed(scene)
    assert again.course.conductor.is_done
    again.course.begin()
    assert again.course.conductor.step == 1
    assert min(id_.number for id_ in again.course.conductor.ids) == 2
    again.settle()
    for name in (T, U):
        again.feed(again.actors[name], {0: [A, B], 1: [C]})
    again.settle()
    assert again.versions == [Version(1, (1 << 32) + 1)] * 3


@pytest.mark.parametrize("committed", [[], [A], [A, B], [C], [A, B, C, T, U]], ids=str)
def test_a_final_list_is_committed_whoever_had_committed_it(committed: list[str]) -> None:
    scene = begun()
    for name in (T, U):
        scene.feed(scene.actors[name], {0: [A, B], 1: [C]})
    for actor in scene.actors.values():
        scene.obey(actor)
    for actor in scene.actors.values():
        scene.say(actor)
    assert scene.course.conductor.is_final
    ids = scene.course.conductor.ids
    for name in committed:
        actor = scene.actors[name]
        scene.obey(actor)
        assert actor.ledger.averaged(actor.ledger.round)
    again = killed(scene)
    assert again.course.conductor.ids == ids or again.course.conductor.is_done
    again.settle()
    for name in (T, U):
        again.feed(again.actors[name], {0: [A, B], 1: [C]})
    again.settle()
    assert again.course.made == 1
    stages = {0: [A, B], 1: [C], 2: [T, U]}
    for stage, names in stages.items():
        expected = 1 if set(names) & set(committed) else (1 << 32) + 1
        assert again.versions[stage] == Version(1, expected)
    assert again.course.conductor.forfeited == []


def test_trainers_of_a_final_list_that_do_not_come_again_forfeit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene = begun()
    for name in (T, U):
        scene.feed(scene.actors[name], {0: [A, B], 1: [C]})
    for actor in [*scene.actors.values(), *scene.actors.values()]:
        scene.obey(actor)
        scene.say(actor)
    del scene.actors[U]
    again = killed(scene)
    again.settle()
    again.clock.now += 11
    for actor in again.actors.values():
        again.say(actor)
    again.course.lose()
    assert f"of {U} is forfeited at group 0" in capsys.readouterr().out
    again.feed(again.actors[T], {0: [A, B], 1: [C]})
    again.settle()
    assert again.course.made == 1


def test_what_the_next_step_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene()
    waiting = Waiting(scene.course)
    assert waiting.waits()
    assert "waits for a replica of stage 0, 1 and a trainer" in capsys.readouterr().out
    scene.enlist("a", 0)
    scene.enlist("c", 1)
    assert waiting.waits()
    assert "waits for a trainer" in capsys.readouterr().out
    scene.enlist("t", NUM_STAGES)
    assert not waiting.waits()
    assert waiting.waits() is False
    assert capsys.readouterr().out.count("training goes on") == 1


def test_who_joins_is_waited_for_if_it_cannot_keep_up_but_not_for_ever() -> None:
    scene = full()
    waiting = Waiting(scene.course)
    scene.enlist("d", 0, ledger=StageLedger(name_of("d"), NOTHING))
    assert not waiting.waits()
    scene.clock.now += 4
    assert waiting.waits()
    waited = 0.0
    while waiting.waits() and waited < 100:
        scene.clock.now += 1
        waited += 1
    assert PATIENCE_SECONDS <= waited <= PATIENCE_SECONDS + 2


def test_a_group_without_weights_is_seen_once_somebody_waits_for_them() -> None:
    scene = begun()
    for name in (T, U):
        scene.feed(scene.actors[name], {0: [A, B], 1: [C]})
    scene.settle()
    waiting = Waiting(scene.course)
    scene.course.send_away(scene.actors[C].member, "a test")
    del scene.actors[C]
    assert waiting.gone() == []
    d = scene.enlist("d", 1, ledger=StageLedger(name_of("d"), NOTHING))
    assert waiting.gone() == []
    scene.clock.now += GONE_SECONDS + 1
    assert waiting.gone() == [1]
    version = scene.course.conductor.restore(1, "keeper")
    order = scene.course.conductor.groups[1].order_for(d.member.name)
    assert order == Join(version, "keeper") and version.step == 1
    # Time to fetch them; a second restore would change what is fetched.
    assert waiting.gone() == []
    scene.clock.now += GONE_SECONDS - 1
    assert waiting.gone() == []
    scene.clock.now += 2
    assert waiting.gone() == [1]
    d.ledger.downloaded(version)
    scene.say(d)
    assert waiting.gone() == []
