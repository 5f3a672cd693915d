"""Screening on sketches with known angles; expected sets are worked out by hand."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.adapters.clipping import clip_factor
from seshu_swarm.adapters.sketch import SKETCH_SIZE, Sketch
from seshu_swarm.coordinator.rounds.screening import Entrant, Screened, norm_limit, screen


def axis(number: int) -> Sketch:
    """A unit vector: axes are at right angles."""
    sketch = np.zeros(SKETCH_SIZE)
    sketch[number] = 1.0
    return sketch


def near(sketch: Sketch, cosine: float, *, towards: int) -> Sketch:
    """A sketch at exactly this cosine, tilted towards an axis that nobody else uses."""
    return cosine * sketch + math.sqrt(1 - cosine**2) * axis(towards)


def entrant(digest: str, number: int, **facts: Any) -> Entrant:
    """Owner, arrival and sketch by number, unless told otherwise."""
    known: dict[str, Any] = {
        "owner": f"owner-{number}",
        "language": "hi",
        "arrived_at": float(number),
        "norm": 1.0,
        "sketch": axis(number),
    }
    return Entrant(digest=digest, **(known | facts))


def names(screened: Screened) -> dict[str, str]:
    return {digest: refused.refusal.name for digest, refused in screened.refused.items()}


def test_different_work_of_different_owners_passes() -> None:
    screened = screen([entrant("b", 2), entrant("a", 3), entrant("c", 1)], {})
    assert screened.kept == ("c", "b", "a") and not screened.refused
    assert screened.max_norm == 2.0


def test_nobody_hands_in() -> None:
    assert screen([], {"old": axis(0)}) == Screened((), {}, 0.0)


@pytest.mark.parametrize(
    ("cosine", "is_copy"), [(1.0, True), (0.96, True), (0.94, False), (-1.0, False)]
)
def test_a_copy_is_more_alike_than_the_threshold(cosine: float, is_copy: bool) -> None:
    second = entrant("b", 2, sketch=near(axis(1), cosine, towards=9))
    screened = screen([entrant("a", 1), second], {})
    assert names(screened) == ({"b": "DUPLICATE"} if is_copy else {})


def test_ten_identities_with_one_work_count_once() -> None:
    sybils = [entrant(f"s{n}", n, sketch=near(axis(100), 0.99, towards=n)) for n in range(20, 30)]
    honest = [entrant("honest", 1)]
    screened = screen([*sybils, *honest], {})
    assert screened.kept == ("honest", "s20")
    assert names(screened) == {f"s{n}": "DUPLICATE" for n in range(21, 30)}
    # Where they copy what somebody has handed in before them, none of them is left.
    copied = [entrant(e.digest, n, sketch=axis(1)) for n, e in enumerate(sybils, start=20)]
    assert screen([*copied, *honest], {}).kept == ("honest",)


def test_the_first_to_arrive_keeps_its_place_whatever_its_digest() -> None:
    thief = entrant("0", 5, sketch=axis(1))
    assert screen([thief, entrant("f", 1)], {}).kept == ("f",)


def test_a_newer_adapter_of_an_owner_and_language_replaces_the_older() -> None:
    mine = {"owner": "me"}
    found = [
        entrant("old", 1, **mine),
        entrant("new", 2, **mine),
        entrant("ta", 3, **mine, language="ta"),
        entrant("other", 4),
    ]
    screened = screen(found, {})
    assert screened.kept == ("new", "ta", "other")
    assert names(screened) == {"old": "SUPERSEDED"}


def test_an_owner_may_improve_what_others_have_copied_meanwhile() -> None:
    found = [
        entrant("first", 1, owner="me"),
        entrant("stolen", 2, owner="thief", sketch=axis(1)),
        entrant("better", 3, owner="me", sketch=near(axis(1), 0.98, towards=7)),
    ]
    screened = screen(found, {})
    assert screened.kept == ("better",)
    assert names(screened) == {"stolen": "DUPLICATE", "first": "SUPERSEDED"}


def test_a_refused_newer_adapter_replaces_nothing() -> None:
    found = [
        entrant("other", 1),
        entrant("mine", 2, owner="me"),
        entrant("stolen", 3, owner="me", sketch=axis(1)),
        entrant("empty", 4, owner="me", norm=0.0, sketch=0 * axis(0)),
    ]
    screened = screen(found, {})
    assert screened.kept == ("other", "mine")
    assert names(screened) == {"stolen": "DUPLICATE", "empty": "FREE_RIDER"}


def test_one_work_under_two_languages_counts_once() -> None:
    second = entrant("ta", 2, owner="me", language="ta", sketch=axis(1))
    assert names(screen([entrant("hi", 1, owner="me"), second], {})) == {"ta": "DUPLICATE"}


def test_what_was_merged_before_is_no_work_of_today() -> None:
    earlier = {"adapter abc of round 3": axis(50), "what round 4 merged": axis(51)}
    found = [
        entrant("a", 1, sketch=near(axis(50), 0.97, towards=60)),
        entrant("b", 2, sketch=3.0 * axis(51)),
        entrant("undone", 3, sketch=-axis(51)),
        entrant("on", 4, sketch=near(axis(50), 0.7, towards=61)),
    ]
    screened = screen(found, earlier)
    assert screened.kept == ("undone", "on")
    assert screened.refused["a"].text == "it repeats adapter abc of round 3"
    assert screened.refused["b"].text == "it repeats what round 4 merged"


@pytest.mark.parametrize(("norm", "is_refused"), [(0.0099, True), (0.0101, False), (1e9, False)])
def test_next_to_nothing_is_free_riding(norm: float, is_refused: bool) -> None:
    found = [entrant("a", 1), entrant("b", 2), entrant("c", 3), entrant("t", 4, norm=norm)]
    assert names(screen(found, {})) == ({"t": "FREE_RIDER"} if is_refused else {})


def test_copies_of_a_giant_do_not_move_the_median() -> None:
    giants = [entrant(f"g{n}", n, norm=1e6, sketch=axis(99)) for n in range(10, 20)]
    screened = screen([entrant("a", 1), entrant("b", 2), *giants], {})
    assert screened.kept == ("a", "b", "g10") and screened.max_norm == 2.0


def test_every_refusal_has_a_sentence_and_a_next_step() -> None:
    found = [
        entrant("a", 1),
        entrant("zero", 2, norm=0.0),
        entrant("copy", 3, sketch=axis(1)),
        entrant("old", 4, sketch=axis(50)),
        entrant("x", 5, owner="me"),
        entrant("y", 6, owner="me"),
    ]
    screened = screen(found, {"round 1": axis(50)})
    assert set(names(screened).values()) == {
        "FREE_RIDER",
        "DUPLICATE",
        "COPY_OF_EARLIER",
        "SUPERSEDED",
    }
    assert all(refused.text and refused.next_step for refused in screened.refused.values())


def test_the_limit_is_twice_the_median() -> None:
    assert norm_limit([3.0, 1.0, 50.0]) == 6.0
    assert norm_limit([1.0, 2.0]) == 3.0
    assert norm_limit([]) == 0.0
    assert [clip_factor(n, 6.0) for n in (0.0, 3.0, 6.0, 12.0, 60.0)] == [1, 1, 1, 0.5, 0.1]


@given(seed=st.integers(0, 10**6))
def test_no_order_of_the_list_and_no_second_look_changes_anything(seed: int) -> None:
    rng = random.Random(seed)
    found = [
        entrant(
            f"{n:02d}",
            n,
            owner=f"owner-{rng.randrange(4)}",
            language=rng.choice(["hi", "ta"]),
            arrived_at=float(rng.randrange(5)),
            norm=rng.choice([0.0, 0.001, 1.0, 2.0, 50.0]),
            sketch=axis(rng.randrange(6)),
        )
        for n in range(12)
    ]
    first = screen(found, {"earlier": axis(0)})
    rng.shuffle(found)
    assert screen(found, {"earlier": axis(0)}) == first
    assert set(first.kept) | set(first.refused) == {e.digest for e in found}
    assert not set(first.kept) & set(first.refused)
    kept = [e for e in found if e.digest in first.kept]
    # One share for each identity and language, and no two of one work.
    assert len({(e.owner, e.language) for e in kept}) == len(kept)
    assert len({int(e.sketch.argmax()) for e in kept}) == len(kept)
    assert screen(kept, {"earlier": axis(0)}).kept == first.kept
