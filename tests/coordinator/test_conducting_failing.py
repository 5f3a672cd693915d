"""A member with which every average fails: it is found, left out by name, and the step is made. No sockets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seshu_swarm.coordinator.conducting.roster import AVOID_SECONDS
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import Phase
from tests.coordinator.conducted import NUM_STAGES, Scene, name_of

A, B, C, D, T = map(name_of, "abcdt")


def begun() -> Scene:
    """Stage 0 of `a`, `b` and `d`, stage 1 of `c`."""
    scene = Scene()
    for letter, group in {"a": 0, "b": 0, "d": 0, "c": 1, "t": NUM_STAGES}.items():
        scene.enlist(letter, group)
    scene.course.begin()
    return scene


Lacking = Callable[[str], set[str]]


def nobody(name: str) -> set[str]:
    return set()


def play(
    scene: Scene, bad: str, *, turns: int, seconds: float = 0.1, lacking: Lacking = nobody
) -> int:
    """Everybody obeys and feeds; averages with `bad` fail at all, and each says whom it was lacking. How
    many failed."""
    num_failed = 0
    for _ in range(turns):
        scene.clock.now += seconds
        for name in [n for n in scene.actors if n not in scene.course.roster]:
            del scene.actors[name]
        for actor in scene.actors.values():
            scene._do(actor)
        scene.feed(scene.actors[T], {0: [n for n in (A, B, D) if n in scene.actors], 1: [C]})
        for actor in scene.actors.values():
            scene._do(actor)
        for place, group in enumerate(scene.course.conductor.groups):
            there = [a for a in scene.actors.values() if a.member.group == place]
            averaging = {a.member.name for a in there if a.ledger.phase is Phase.AVERAGING}
            if averaging and averaging >= group.members:
                fails = bad in averaging and len(averaging) > 1
                num_failed += fails
                # All say that they average, so that it is known when they began.
                for actor in there:
                    scene.say(actor)
                scene.clock.now += seconds
                for actor in there:
                    ledger = actor.ledger
                    if fails:
                        ledger.average_failed(ledger.round, lacking(ledger.name))
                    else:
                        ledger.averaged(ledger.round)
        for actor in list(scene.actors.values()):
            if actor.member.name in scene.course.roster:
                scene.say(actor)
    return num_failed


def gone_of(scene: Scene) -> list[str]:
    return [name for name in (A, B, D) if name not in scene.course.roster]


@pytest.mark.parametrize("bad", [A, B, D])
@pytest.mark.parametrize("says", [nobody, lambda name: {A, B, D}], ids=["nobody", "all"])
def test_who_is_lacking_is_left_out_by_name(
    bad: str, says: Lacking, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it says itself."""
    scene = begun()
    lacking: Lacking = lambda name: says(name) if name == bad else {bad}
    num_failed = play(scene, bad, turns=60, lacking=lacking)
    assert (scene.course.made, num_failed, gone_of(scene)) == (1, 3, [bad])
    assert f"{bad} is avoided for {AVOID_SECONDS:.0f} s: averages" in capsys.readouterr().out


@pytest.mark.parametrize("newest", [A, B, D])
def test_of_two_that_lack_one_another_the_newer_one_goes(newest: str) -> None:
    """The one word against the other; the third one lacks nobody."""
    scene = begun()
    old = [name for name in (A, B, D) if name != newest]
    play(scene, "nobody", turns=20)
    scene.course.roster.remove(newest)
    scene.course.conductor.lost(0, newest)
    for _ in range(2):
        scene.course.begin()
        play(scene, "nobody", turns=20)
    made, version = scene.course.made, scene.course.conductor.groups[0].version
    scene.enlist(newest[0], 0, ledger=StageLedger(newest, version))
    scene.course.begin()
    pairs = {newest: {old[0]}, old[0]: {newest}}
    play(scene, newest, turns=60, lacking=lambda name: pairs.get(name, set()))
    assert scene.course.made == made + 1
    assert gone_of(scene) == [newest]


@pytest.mark.parametrize("newest", ["a", "b"])
def test_one_that_trained_alone_is_older_than_who_joins_it(newest: str) -> None:
    """They name one another; the names' order does not matter."""
    scene = Scene()
    oldest = "a" if newest == "b" else "b"
    for letter, group in {oldest: 0, "c": 1, "t": NUM_STAGES}.items():
        scene.enlist(letter, group)
    scene.course.begin()
    play(scene, "nobody", turns=20)
    version = scene.course.conductor.groups[0].version
    scene.enlist(newest, 0, ledger=StageLedger(name_of(newest), version))
    scene.course.begin()
    play(scene, name_of(newest), turns=60, lacking=lambda name: {A, B})
    assert scene.course.made == 2
    assert name_of(oldest) in scene.course.roster and name_of(newest) not in scene.course.roster


@pytest.mark.parametrize("bad", [A, B, D])
def test_who_fails_every_average_is_found_the_second_time_where_nobody_says_who(bad: str) -> None:
    """The first time a member without fault may go first; alone, even the one at fault makes the step."""
    scene = begun()
    num_failed = play(scene, bad, turns=60)
    assert scene.course.made == 1
    gone = gone_of(scene)
    assert gone and num_failed == 3 * len(gone)
    scene.clock.now += AVOID_SECONDS
    for member in scene.course.roster:
        member.heard_at = scene.clock.now
    for name in gone:
        version = scene.course.conductor.groups[0].version
        scene.enlist(name[0], 0, ledger=StageLedger(name, version))
    scene.course.begin()
    num_failed = play(scene, bad, turns=60)
    assert scene.course.made == 2 and num_failed <= 6
    assert bad not in scene.course.roster
    assert {A, B, D} & {member.name for member in scene.course.roster}


def test_two_failures_leave_nobody_out() -> None:
    scene = begun()
    num_failed = 0
    while num_failed < 2:
        num_failed += play(scene, A, turns=1)
    everybody = set(scene.actors)
    play(scene, "nobody", turns=20)
    assert scene.course.made == 1
    assert {member.name for member in scene.course.roster} == everybody


def test_slow_lines_have_six_rounds() -> None:
    scene = begun()
    num_failed = 0
    while len(scene.actors) == 5 and num_failed < 20:
        num_failed += play(scene, A, turns=1, seconds=4.5)
    assert num_failed == 6
