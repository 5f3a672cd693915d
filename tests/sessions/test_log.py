"""What was sent along an edge: appended in order, sent again from anywhere, trimmed by whole pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest

from seshu_swarm.errors import ProtocolError
from seshu_swarm.sessions.log import MAX_PIECE_TOKENS, Log, joined
from seshu_swarm.sessions.messages import Piece
from tests.sessions.toy import Tokens


def piece(start: int, end: int, epoch: int = 0) -> Piece[Tokens]:
    """Tokens that are their own positions."""
    return Piece(epoch, start, Tokens(tuple(range(start, end))))


def log_of(*bounds: int) -> Log[Tokens]:
    log = Log[Tokens](bounds[0])
    for start, end in pairwise(bounds):
        log.append(piece(start, end))
    return log


def test_a_piece_must_follow_the_last_one() -> None:
    log = log_of(5, 8)
    for start, end in [(7, 9), (9, 10), (5, 8)]:
        with pytest.raises(ProtocolError, match="the log ends at 8"):
            log.append(piece(start, end))
    assert (log.start, log.end) == (5, 8)


@pytest.mark.parametrize("position", range(5, 13))
def test_everything_from_a_position_on_in_one_piece_and_in_the_epoch_asked_for(
    position: int,
) -> None:
    sent = log_of(5, 8, 9, 12).since(position, epoch=4)
    assert sent == ([] if position == 12 else [piece(position, 12, epoch=4)])


def test_what_is_ahead_of_the_log_lacks_nothing() -> None:
    assert log_of(5, 8).since(20, epoch=0) == []


def test_pieces_are_joined_up_to_the_size_of_a_message() -> None:
    size = MAX_PIECE_TOKENS // 2
    log = log_of(0, size, 2 * size, 2 * size + 1)
    assert [(p.start, p.end) for p in log.since(0, 0)] == [(0, 2 * size), (2 * size, 2 * size + 1)]
    assert [(p.start, p.end) for p in log.since(1, 0)] == [(1, 2 * size + 1)]


def test_whole_pieces_before_a_position_are_forgotten() -> None:
    log = log_of(0, 3, 6, 9)
    log.trim(5)
    assert (log.start, log.end) == (3, 9)
    assert log.since(3, 0) == [piece(3, 9)]
    with pytest.raises(ProtocolError, match="the log begins at 3"):
        log.since(2, 0)
    log.trim(9)
    assert (log.start, log.end) == (9, 9)


def test_a_log_that_ends_before_the_trimmed_position_goes_on_from_there() -> None:
    log = log_of(0, 3)
    log.trim(7)
    log.append(piece(7, 8))
    assert log.since(7, 0) == [piece(7, 8)]


def test_joining() -> None:
    assert joined([Tokens((1,))]) == Tokens((1,))
    assert joined([Tokens((1, 2)), Tokens((3,)), Tokens((4, 5))]) == Tokens((1, 2, 3, 4, 5))
