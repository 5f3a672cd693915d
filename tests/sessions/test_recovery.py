"""One position counts: the newest that all blocks and the client's outputs have passed."""

from __future__ import annotations

from seshu_swarm.sessions.recovery import Saved
from seshu_swarm.spans import Span

WHOLE = Span(0, 4)


def states(span: Span, position: int) -> dict[int, str]:
    return {block: f"{block}@{position}" for block in span}


def test_before_the_first_snapshot_there_is_the_beginning() -> None:
    saved = Saved[str](WHOLE)
    assert saved.position == 0
    assert saved.of(Span(1, 3)) is None


def test_a_resumed_session_begins_with_what_was_saved() -> None:
    saved = Saved[str](WHOLE, 9, states(WHOLE, 9))
    assert saved.position == 9
    assert saved.of(Span(1, 3)) == {1: "1@9", 2: "2@9"}


def test_the_position_moves_when_every_block_is_there() -> None:
    saved = Saved[str](WHOLE)
    saved.add(4, states(Span(0, 2), 4))
    assert not saved.settle(100)
    saved.add(4, states(Span(2, 4), 4))
    assert saved.settle(100)
    assert (saved.position, saved.of(WHOLE)) == (4, states(WHOLE, 4))
    assert not saved.settle(100)


def test_states_of_different_positions_are_never_mixed() -> None:
    saved = Saved[str](WHOLE)
    saved.add(4, states(Span(0, 2), 4))
    saved.add(8, states(Span(2, 4), 8))
    assert not saved.settle(100)
    saved.add(8, states(Span(0, 2), 8))
    assert saved.settle(100)
    assert saved.of(WHOLE) == states(WHOLE, 8)


def test_not_beyond_what_the_client_has_received() -> None:
    saved = Saved[str](WHOLE)
    for position in (4, 8):
        saved.add(position, states(WHOLE, position))
    assert not saved.settle(3)
    assert saved.settle(7)
    assert saved.position == 4
    assert saved.settle(8)
    assert saved.position == 8


def test_a_snapshot_from_before_is_passed_over() -> None:
    saved = Saved[str](WHOLE, 8, states(WHOLE, 8))
    saved.add(4, states(WHOLE, 4))
    saved.add(8, dict.fromkeys(WHOLE, "other"))
    assert not saved.settle(100)
    assert saved.of(WHOLE) == states(WHOLE, 8)


def test_blocks_that_begin_again_have_to_reach_later_positions_again() -> None:
    saved = Saved[str](WHOLE)
    saved.add(4, states(Span(0, 2), 4))
    saved.forget(Span(1, 2))
    saved.add(4, states(Span(2, 4), 4))
    assert not saved.settle(100)
    saved.add(4, states(Span(1, 2), 4))
    assert saved.settle(100)


def test_what_was_settled_stays_when_blocks_begin_again() -> None:
    saved = Saved[str](WHOLE, 8, states(WHOLE, 8))
    saved.forget(WHOLE)
    assert saved.of(WHOLE) == states(WHOLE, 8)
