"""Each rule of a peer's side, one by one; what they do together is the simulator's."""

from __future__ import annotations

import pytest

from seshu_swarm.sessions.messages import (
    CLIENT,
    At,
    Attach,
    Open,
    Piece,
    Reroute,
    Snapshot,
    To,
)
from seshu_swarm.sessions.part import Part
from seshu_swarm.spans import Span
from tests.sessions.toy import Tokens, compute

SPAN = Span(2, 4)


def a_part(
    *, position: int = 0, epoch: int = 3, following: str = "next", snapshot_tokens: int = 8
) -> Part[Tokens, int]:
    state = None if position == 0 else dict.fromkeys(SPAN, position)
    opened = Open(epoch, SPAN, "before", following, position, state, snapshot_tokens)
    return Part[Tokens, int](opened)


def piece(start: int, end: int, epoch: int = 3) -> Piece[Tokens]:
    return Piece(epoch, start, Tokens(tuple(range(start, end))))


def step(part: Part[Tokens, int], max_tokens: int = 100) -> list[To[Tokens, int]]:
    tokens = part.take(max_tokens)
    assert tokens is not None
    return part.done(*compute(part.state, part.span, tokens))


def outputs(start: int, end: int) -> Tokens:
    """What a part that began at 0 computes from tokens that are their own positions."""
    return compute(None, SPAN, Tokens(tuple(range(end))))[1].part(start, end)


def test_a_part_greets_both_neighbours_and_the_client_only_as_the_one_before() -> None:
    assert a_part(position=5).greet() == [To("before", At(3, 5)), To("next", Attach(3))]
    assert a_part(following=CLIENT).greet() == [To("before", At(3, 0))]


def test_tokens_are_absorbed_once_whatever_overlaps() -> None:
    part = a_part()
    for start, end in [(0, 2), (0, 2), (1, 4), (0, 3), (4, 5), (0, 5)]:
        assert part.receive("before", piece(start, end)) == []
    assert part.received == 5
    assert part.take(100) == Tokens((0, 1, 2, 3, 4))


def test_a_gap_is_answered_once_with_the_position_to_go_on_from() -> None:
    part = a_part()
    part.receive("before", piece(0, 2))
    assert part.receive("before", piece(4, 5)) == [To("before", At(3, 2))]
    assert part.receive("before", piece(5, 6)) == []
    part.receive("before", piece(2, 4))
    assert part.receive("before", piece(5, 6)) == [To("before", At(3, 4))]
    assert part.received == 4


@pytest.mark.parametrize(("sender", "epoch"), [("other", 3), ("before", 2), ("before", 4)])
def test_everybody_else_and_every_other_epoch_is_fenced_off(sender: str, epoch: int) -> None:
    part = a_part()
    assert part.receive(sender, piece(0, 2, epoch)) == []
    assert part.attached(sender, Attach(epoch)) == []
    assert part.received == 0
    part.receive("before", piece(0, 2))
    step(part)
    after = "next" if sender == "before" else sender
    assert part.go_on(after, At(epoch, 0)) == []


def test_the_one_before_is_told_where_this_part_is() -> None:
    part = a_part()
    part.receive("before", piece(0, 2))
    assert part.attached("before", Attach(3)) == [To("before", At(3, 2))]


def test_steps_end_where_a_snapshot_is_due() -> None:
    part = a_part(snapshot_tokens=4)
    part.receive("before", piece(0, 3))
    part.receive("before", piece(3, 10))
    taken = []
    for max_tokens in (3, 3, 3, 100, 100):
        tokens = part.take(max_tokens)
        taken.append(0 if tokens is None else tokens.count)
        if tokens is not None:
            part.done(*compute(part.state, part.span, tokens))
    assert taken == [3, 1, 3, 1, 2]


def test_nothing_is_taken_while_a_step_is_under_way_or_without_tokens() -> None:
    part = a_part()
    assert not part.is_ready and part.take(1) is None
    part.receive("before", piece(0, 2))
    assert part.is_ready and part.take(1) == Tokens((0,))
    assert not part.is_ready and part.take(1) is None


def test_a_snapshot_goes_to_the_client_where_one_is_due() -> None:
    part = a_part(snapshot_tokens=2)
    part.receive("before", piece(0, 3))
    state, _ = compute(None, SPAN, Tokens((0, 1)))
    assert step(part) == [To(CLIENT, Snapshot(2, state))]
    assert step(part) == []
    assert part.snapshot().position == 3


def test_outputs_wait_until_the_next_part_has_said_where_it_is() -> None:
    part = a_part()
    part.receive("before", piece(0, 4))
    assert step(part, 2) == []
    assert part.go_on("next", At(3, 1)) == [To("next", Piece(3, 1, outputs(1, 2)))]
    assert step(part, 2) == [To("next", Piece(3, 2, outputs(2, 4)))]


def test_what_the_next_part_has_is_not_sent_to_it() -> None:
    part = a_part()
    assert part.go_on("next", At(3, 3)) == []
    part.receive("before", piece(0, 6))
    assert step(part, 2) == []
    assert step(part, 2) == [To("next", Piece(3, 3, outputs(3, 4)))]
    assert step(part, 2) == [To("next", Piece(3, 4, outputs(4, 6)))]


def test_everything_since_the_last_trim_can_be_sent_again() -> None:
    part = a_part()
    for end in (2, 4, 6):
        part.receive("before", piece(end - 2, end))
        step(part)
    part.trim(4)
    assert part.num_kept == 2
    assert part.go_on("next", At(3, 4)) == [To("next", Piece(3, 4, outputs(4, 6)))]


def after_two_steps() -> Part[Tokens, int]:
    part = a_part()
    part.greet()
    part.receive("before", piece(0, 4))
    step(part, 2)
    step(part, 2)
    return part


EVERYTHING: list[To[Tokens, int]] = [To("next", Piece(3, 0, outputs(0, 4)))]


def test_a_greeting_and_an_answer_that_cross_are_answered_once() -> None:
    part = after_two_steps()
    assert part.go_on("next", At(3, 0)) == EVERYTHING
    assert part.go_on("next", At(3, 0)) == []
    part.receive("before", piece(4, 5))
    assert step(part) == [To("next", Piece(3, 4, outputs(4, 5)))]


def test_what_was_lost_is_sent_again_after_the_crossing() -> None:
    """Asked for a third time, asked for from elsewhere, or asked for after another greeting."""
    part = after_two_steps()
    part.go_on("next", At(3, 0))
    part.go_on("next", At(3, 0))
    assert part.go_on("next", At(3, 0)) == EVERYTHING
    assert part.go_on("next", At(3, 0)) == EVERYTHING

    part = after_two_steps()
    part.go_on("next", At(3, 0))
    assert part.go_on("next", At(3, 1)) == [To("next", Piece(3, 1, outputs(1, 4)))]
    assert part.go_on("next", At(3, 0)) == EVERYTHING

    part = after_two_steps()
    part.go_on("next", At(3, 0))
    for again in (part.greet, lambda: part.reroute(Reroute(3, "before", "next"))):
        again()
        assert part.go_on("next", At(3, 0)) == EVERYTHING


def test_the_client_is_sent_what_it_asks_for_each_time() -> None:
    """It is not greeted, so nothing of it crosses a greeting."""
    part = after_two_steps()
    part.go_on("next", At(3, 0))
    part.reroute(Reroute(4, "before", CLIENT))
    for _ in range(2):
        assert part.go_on(CLIENT, At(4, 0)) == [To(CLIENT, Piece(4, 0, outputs(0, 4)))]


def test_who_says_to_be_behind_what_was_trimmed_said_it_long_ago() -> None:
    part = a_part()
    part.receive("before", piece(0, 6))
    step(part)
    part.trim(6)
    assert part.go_on("next", At(3, 2)) == []


def test_a_trim_ahead_of_the_state_forgets_nothing_that_is_still_to_be_computed() -> None:
    part = a_part()
    part.receive("before", piece(0, 4))
    part.trim(100)
    part.go_on("next", At(3, 0))
    assert step(part) == [To("next", Piece(3, 0, outputs(0, 4)))]


def test_a_new_epoch_brings_new_neighbours_and_keeps_what_is_known() -> None:
    part = a_part()
    part.go_on("next", At(3, 0))
    part.receive("before", piece(0, 4))
    step(part, 2)
    greeting: list[To[Tokens, int]] = [To("upper", At(4, 4)), To("lower", Attach(4))]
    assert part.reroute(Reroute(4, "upper", "lower")) == greeting
    assert step(part, 2) == []
    assert part.receive("before", piece(4, 5)) == []
    assert part.go_on("lower", At(4, 1)) == [To("lower", Piece(4, 1, outputs(1, 4)))]
    part.receive("upper", piece(4, 5, epoch=4))
    assert part.received == 5


def test_an_older_epoch_is_passed_over_and_the_same_one_is_a_nudge() -> None:
    part = a_part()
    part.go_on("next", At(3, 0))
    assert part.reroute(Reroute(2, "old", "old")) == []
    assert part.reroute(Reroute(3, "before", "next")) == part.greet()
    part.receive("before", piece(0, 1))
    assert step(part) == [To("next", Piece(3, 0, outputs(0, 1)))]


def test_a_step_under_way_goes_on_in_the_new_epoch() -> None:
    part = a_part()
    part.receive("before", piece(0, 2))
    tokens = part.take(100)
    assert tokens is not None
    part.reroute(Reroute(4, "before", "next"))
    part.go_on("next", At(4, 0))
    assert part.done(*compute(part.state, part.span, tokens)) == [
        To("next", Piece(4, 0, outputs(0, 2)))
    ]


def test_a_part_opened_later_goes_on_from_its_state() -> None:
    part = a_part(position=8)
    assert part.receive("before", piece(6, 9)) == []
    assert part.take(100) == Tokens((8,))
    state, output = compute(dict.fromkeys(SPAN, 8), SPAN, Tokens((8,)))
    part.go_on("next", At(3, 8))
    assert part.done(state, output) == [To("next", Piece(3, 8, output))]
    assert part.state == state
