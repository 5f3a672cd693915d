"""Members that live and do not do what they are told. No sockets; the time is given."""

from __future__ import annotations

from seshu_swarm.coordinator.conducting.patience import (
    COMMIT_SECONDS,
    FEED_SECONDS,
    MANY_ROUNDS,
    OBEY_SECONDS,
)
from seshu_swarm.pipeline.group import StagePhase
from seshu_swarm.pipeline.messages import Seal
from tests.coordinator.conducted import NUM_STAGES, Actor, Scene, name_of

A, B, C, T, U = map(name_of, "abctu")


def begun() -> Scene:
    """Stage 0 of `a` and `b`, stage 1 of `c`, trainers `t` and `u`; everybody is open."""
    scene = Scene()
    for letter, group in {"a": 0, "b": 0, "c": 1, "t": NUM_STAGES, "u": NUM_STAGES}.items():
        scene.enlist(letter, group)
    scene.course.begin()
    scene.settle()
    return scene


def live(scene: Scene, seconds: float, *, deaf: str = "") -> None:
    """Everybody says that it lives, once a second, and obeys, save one."""
    for _ in range(int(seconds)):
        scene.clock.now += 1.0
        for name, actor in scene.actors.items():
            if name in scene.course.roster:
                if name != deaf:
                    scene.obey(actor)
                scene.say(actor)
        scene.course.lose()


def feed_all(scene: Scene) -> None:
    for name in (T, U):
        scene.feed(scene.actors[name], {0: [A, B], 1: [C]})


def test_before_the_first_step_nobody_is_blamed() -> None:
    scene = Scene()
    scene.enlist("a", 0)
    live(scene, COMMIT_SECONDS)
    assert A in scene.course.roster


def go_on_without(scene: Scene, name: str) -> None:
    """What the lost one had counted is counted by others, and the step is made."""
    del scene.actors[name]
    scene.settle()
    for trainer in (T, U):
        scene.feed(scene.actors[trainer], {0: [B], 1: [C]})
    scene.settle()
    assert scene.course.made == 1


def test_who_never_seals_is_sent_away_and_the_others_go_on() -> None:
    scene = begun()
    feed_all(scene)
    deaf = scene.actors.pop(A)
    scene.settle()
    scene.actors[A] = deaf
    assert isinstance(scene.course.conductor.groups[0].order_for(A), Seal)
    live(scene, OBEY_SECONDS, deaf=A)
    assert A in scene.course.roster
    live(scene, 2, deaf=A)
    assert A not in scene.course.roster
    go_on_without(scene, A)


def test_who_averages_for_ever_is_sent_away() -> None:
    scene = begun()
    feed_all(scene)
    for _ in range(3):
        for actor in scene.actors.values():
            scene.obey(actor)
            scene.say(actor)
    groups = scene.course.conductor.groups
    assert [group.phase for group in groups] == [StagePhase.COMMITTING] * 3
    for name in (B, C, T, U):  # their own time is up
        scene.actors[name].ledger.average_failed(groups[0].round)
    live(scene, COMMIT_SECONDS, deaf=A)
    assert A in scene.course.roster
    live(scene, 2, deaf=A)
    assert {B, C, T, U} == {member.name for member in scene.course.roster}
    go_on_without(scene, A)


def test_a_trainer_that_feeds_nothing_is_sent_away_once_others_have_fed() -> None:
    scene = begun()
    live(scene, FEED_SECONDS + 2)
    assert {T, U} <= {member.name for member in scene.course.roster}, "nobody could feed"
    scene.feed(scene.actors[T], {0: [A, B], 1: [C]})
    live(scene, FEED_SECONDS)
    assert U in scene.course.roster
    live(scene, 2)
    assert U not in scene.course.roster
    del scene.actors[U]
    scene.settle()
    assert scene.course.made == 1
    assert {id_.trainer for id_ in scene.course.conductor.ids} == {T}


def test_a_slow_trainer_is_waited_for() -> None:
    scene = begun()
    scene.feed(scene.actors[T], {0: [A, B], 1: [C]})
    slow: Actor = scene.actors[U]
    for tokens in range(1, 4):
        live(scene, FEED_SECONDS - 1)
        slow.member.tokens = tokens
    assert U in scene.course.roster


def test_a_trainer_that_says_it_fed_what_nobody_counted_is_sent_away() -> None:
    scene = begun()
    num_turns = 0
    while U in scene.course.roster:
        num_turns += 1
        assert num_turns < 2 * MANY_ROUNDS
        scene.feed(scene.actors[T], {0: [A, B], 1: [C]})
        scene.feed(scene.actors[U], {})
        scene.settle()
        scene.course.lose()
    assert num_turns > MANY_ROUNDS
    assert T in scene.course.roster
    assert scene.course.made == 0
    del scene.actors[U]
    scene.settle()
    scene.feed(scene.actors[T], {0: [A, B], 1: [C]})
    scene.settle()
    assert scene.course.made == 1


def test_rounds_that_a_lost_stage_needs_are_no_fault_of_trainers() -> None:
    scene = begun()
    for _ in range(3 * MANY_ROUNDS):
        scene.course.conductor.restore(0, "keeper")
        scene.course.lose()
    assert {T, U} <= {member.name for member in scene.course.roster}
