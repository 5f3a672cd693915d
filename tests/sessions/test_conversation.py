"""Each rule of the client's side, and what a session costs when nothing goes wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from seshu_swarm.sessions.conversation import Conversation, Lost, Place
from seshu_swarm.sessions.messages import (
    CLIENT,
    At,
    Open,
    Piece,
    Reroute,
    Snapshot,
    To,
    Trim,
)
from seshu_swarm.sessions.part import Part
from seshu_swarm.spans import Span
from tests.sessions.toy import Tokens, Whole, compute

WHOLE = Span(0, 4)
CHAIN = [("a", Span(0, 1)), ("b", Span(1, 3)), ("c", Span(3, 4))]


class Room:
    """Parts and one client, everybody hears everybody at once and in order; the dead hear nothing."""

    def __init__(self, snapshot_tokens: int = 4) -> None:
        self.talk = Conversation[Tokens, int](WHOLE, snapshot_tokens=snapshot_tokens)
        self.parts: dict[str, Part[Tokens, int]] = {}
        self.dead: set[str] = set()
        self.num_pieces = self.num_tokens = self.most_kept = 0
        self.received: list[int] = []

    def say(self, saying: Sequence[To[Tokens, int]], sender: str = CLIENT) -> None:
        queue = deque((sender, to) for to in saying)
        while queue:
            source, to = queue.popleft()
            if to.peer not in self.dead:
                speaker, said = to.peer, self._hear(source, to)
                queue.extend((speaker, answer) for answer in said)
        tokens = [value for payload in self.talk.outputs for value in payload.values]
        self.talk.outputs.clear()
        self.received += tokens

    def feed(self, *values: int) -> None:
        self.say(self.talk.feed(Tokens(values)))

    def _hear(self, source: str, to: To[Tokens, int]) -> list[To[Tokens, int]]:
        message: Any = to.message
        if isinstance(message, Piece):
            self.num_pieces += 1
            self.num_tokens += message.payload.count
        if to.peer == CLIENT:
            return self._tell_client(source, message)
        if isinstance(message, Open):
            self.parts[to.peer] = Part[Tokens, int](message)
            return self.parts[to.peer].greet()
        part = self.parts[to.peer]
        said = _tell_part(part, source, message)
        while (tokens := part.take(3)) is not None:
            said += part.done(*compute(part.state, part.span, tokens))
        self.most_kept = max(self.most_kept, part.num_kept)
        return said

    def _tell_client(self, source: str, message: Any) -> list[To[Tokens, int]]:
        if isinstance(message, Piece):
            return self.talk.heard(source, message)
        if isinstance(message, At):
            return self.talk.told_where(source, message)
        return self.talk.saved(source, message)


def _tell_part(part: Part[Tokens, int], source: str, message: Any) -> list[To[Tokens, int]]:
    if isinstance(message, Piece):
        return part.receive(source, message)
    if isinstance(message, At):
        return part.go_on(source, message)
    if isinstance(message, Reroute):
        return part.reroute(message)
    if isinstance(message, Trim):
        part.trim(message.position)
        return []
    return part.attached(source, message)


def begun(chain: Sequence[Place] = CHAIN, star: Sequence[int] = ()) -> Room:
    room = Room()
    room.say(room.talk.begin(chain, star))
    return room


def replaced(room: Room, gone: Sequence[str], *chains: Sequence[Place]) -> None:
    room.dead |= set(gone)
    lost = room.talk.lost(gone)
    saying = []
    for part, chain in reversed(list(zip(lost, chains, strict=True))):
        saying += room.talk.replace(part, chain)
    room.say(saying)


def test_a_chain_is_opened_with_its_neighbours_and_told_where_the_client_is() -> None:
    talk = Conversation[Tokens, int](WHOLE, snapshot_tokens=4)
    opened = {to.peer: to.message for to in talk.begin(CHAIN) if isinstance(to.message, Open)}
    assert opened == {
        "a": Open(0, Span(0, 1), CLIENT, "b", 0, None, 4),
        "b": Open(0, Span(1, 3), "a", "c", 0, None, 4),
        "c": Open(0, Span(3, 4), "b", CLIENT, 0, None, 4),
    }
    assert talk.begin(CHAIN)[-1] == To("c", At(0, 0))


@pytest.mark.parametrize("star", [(), (1,), (2,), (1, 2)])
def test_outputs_are_those_of_the_whole_model(star: Sequence[int]) -> None:
    room = begun(star=star)
    room.feed(5, 6, 7)
    room.feed(8)
    assert room.received == Whole(WHOLE, [5, 6, 7, 8]).outputs
    assert room.talk.received == room.talk.fed == 4


def test_each_token_crosses_each_edge_once_and_little_is_kept() -> None:
    room = begun()
    for value in range(400):
        room.feed(value)
    assert room.received == Whole(WHOLE, range(400)).outputs
    assert room.num_pieces == room.num_tokens == 4 * 400
    assert room.most_kept <= 4 + 1
    assert room.talk.newest(WHOLE)[0] == 400


def test_a_replacement_costs_the_tokens_since_the_snapshot_however_long_the_session() -> None:
    costs = []
    for num_tokens in (6, 402):
        room = begun()
        for value in range(num_tokens):
            room.feed(value)
        before = room.num_tokens
        replaced(room, ["b"], [("d", Span(1, 3))])
        costs.append(room.num_tokens - before)
        room.feed(7)
        assert room.received == Whole(WHOLE, [*range(num_tokens), 7]).outputs
    # Two tokens since the snapshot, from "a" to "d", twice at most: whoever comes later asks again.
    # "c" has what follows from them.
    assert costs[0] == costs[1] <= 2 * 2


@pytest.mark.parametrize(
    ("gone", "chains"),
    [
        (["a"], [[("d", Span(0, 1))]]),
        (["c"], [[("d", Span(3, 4))]]),
        (["b"], [[("d", Span(1, 2)), ("e", Span(2, 3))]]),
        (["a", "b"], [[("d", Span(0, 3))]]),
        (["b", "c"], [[("d", Span(1, 2)), ("e", Span(2, 4))]]),
        (["a", "c"], [[("d", Span(0, 1))], [("e", Span(3, 4))]]),
        (["a", "b", "c"], [[("d", Span(0, 2)), ("e", Span(2, 4))]]),
    ],
)
@pytest.mark.parametrize("star", [(), (1,), (2,)])
def test_lost_parts_are_replaced_wherever_they_are(
    gone: list[str], chains: list[list[Place]], star: Sequence[int]
) -> None:
    room = begun(star=star)
    for value in range(6):
        room.feed(value)
    replaced(room, gone, *chains)
    room.feed(6, 7, 8)
    assert room.received == Whole(WHOLE, range(9)).outputs
    assert [block for leg in room.talk.legs for block in leg.span] == list(WHOLE)


def test_tokens_fed_while_a_part_is_gone_come_out_once_it_is_replaced() -> None:
    room = begun()
    room.feed(0, 1)
    room.dead.add("b")
    room.feed(2)
    room.feed(3)
    assert room.talk.received == 2
    replaced(room, ["b"], [("d", Span(1, 3))])
    assert room.received == Whole(WHOLE, range(4)).outputs


def test_what_a_replaced_part_still_says_is_passed_over() -> None:
    room = begun()
    room.feed(0, 1)
    talk = room.talk
    replaced(room, ["c"], [("d", Span(3, 4))])
    assert talk.heard("c", Piece(talk.epoch, 2, Tokens((9,)))) == []
    assert talk.saved("c", Snapshot(2, {3: 1})) == []
    assert talk.told_where("c", At(talk.epoch, 0)) == []
    assert (talk.received, talk.newest(WHOLE)[0]) == (2, 0)


def test_outputs_of_another_epoch_or_of_a_part_in_the_middle_are_passed_over() -> None:
    room = begun()
    talk = room.talk
    for sender, epoch in [("c", 1), ("b", 0), ("stranger", 0)]:
        assert talk.heard(sender, Piece(epoch, 0, Tokens((9,)))) == []
    assert talk.received == 0


def test_a_gap_in_the_outputs_is_answered_once() -> None:
    talk = begun().talk
    talk.heard("c", Piece(0, 0, Tokens((1, 2))))
    assert talk.heard("c", Piece(0, 1, Tokens((2,)))) == []
    assert talk.heard("c", Piece(0, 3, Tokens((4,)))) == [To("c", At(0, 2))]
    assert talk.heard("c", Piece(0, 4, Tokens((5,)))) == []
    talk.heard("c", Piece(0, 0, Tokens((1, 2, 3))))
    assert talk.outputs == [Tokens((1, 2)), Tokens((3,))]


def test_a_part_that_is_ahead_is_sent_only_what_it_lacks() -> None:
    talk = Conversation[Tokens, int](WHOLE, snapshot_tokens=4)
    talk.begin(CHAIN)
    assert talk.feed(Tokens((0, 1))) == []
    assert talk.told_where("a", At(0, 3)) == []
    assert talk.feed(Tokens((2, 3))) == [To("a", Piece(0, 3, Tokens((3,))))]
    assert talk.feed(Tokens((4,))) == [To("a", Piece(0, 4, Tokens((4,))))]
    assert talk.told_where("a", At(0, 1)) == [To("a", Piece(0, 1, Tokens((1, 2, 3, 4))))]
    assert talk.told_where("a", At(1, 1)) == []


def test_in_a_new_epoch_nothing_is_fed_before_the_part_has_said_where_it_is() -> None:
    room = begun()
    room.feed(0, 1)
    room.talk.carry(2)
    assert room.talk.feed(Tokens((2,))) == []
    assert room.talk.told_where("a", At(1, 1)) == [To("a", Piece(1, 1, Tokens((1, 2))))]


def snapshots(position: int) -> list[tuple[str, Snapshot[int]]]:
    return [(peer, Snapshot(position, dict.fromkeys(span, position))) for peer, span in CHAIN]


def test_nothing_is_trimmed_before_all_blocks_and_the_outputs_have_passed() -> None:
    talk = begun().talk
    talk.feed(Tokens(tuple(range(6))))
    for peer, snapshot in snapshots(4):
        assert talk.saved(peer, snapshot) == []
    assert talk.heard("c", Piece(0, 0, Tokens((0, 1, 2)))) == []
    assert talk.newest(WHOLE) == (0, None)
    trims = talk.heard("c", Piece(0, 3, Tokens((3,))))
    assert trims == [To(peer, Trim(4)) for peer in "abc"]
    assert talk.newest(Span(1, 3)) == (4, {1: 4, 2: 4})


def test_a_newer_state_of_some_blocks_alone_is_not_where_they_go_on() -> None:
    """Their next part may still lack outputs from before it, which nobody could send again."""
    talk = begun().talk
    talk.feed(Tokens(tuple(range(6))))
    talk.saved(*snapshots(4)[0])
    saying = talk.replace(Lost(0, 1, Span(0, 1)), [("d", Span(0, 1))])
    opened = [to.message for to in saying if isinstance(to.message, Open)]
    assert [(message.position, message.state) for message in opened] == [(0, None)]


def test_a_replaced_part_has_to_reach_a_snapshots_position_again() -> None:
    talk = begun().talk
    talk.feed(Tokens(tuple(range(6))))
    talk.heard("c", Piece(0, 0, Tokens(tuple(range(6)))))
    (a, first), *others = snapshots(4)
    talk.saved(a, first)
    talk.replace(Lost(0, 1, Span(0, 1)), [("d", Span(0, 1))])
    for peer, snapshot in others:
        assert talk.saved(peer, snapshot) == []
    assert talk.newest(WHOLE)[0] == 0
    assert talk.saved("d", first) == [To(peer, Trim(4)) for peer in "dbc"]


@pytest.mark.parametrize(
    "snapshot",
    [
        Snapshot(7, {1: 0, 2: 0}),  # beyond what was fed
        Snapshot(4, {1: 0}),
        Snapshot(4, {1: 0, 2: 0, 3: 0}),
        Snapshot(4, {0: 0, 1: 0}),
    ],
)
def test_a_snapshot_of_other_blocks_or_of_the_future_is_passed_over(
    snapshot: Snapshot[int],
) -> None:
    talk = begun().talk
    talk.feed(Tokens(tuple(range(6))))
    talk.heard("c", Piece(0, 0, Tokens(tuple(range(6)))))
    talk.saved("b", snapshot)
    for peer, right in snapshots(4):
        if peer != "b":
            assert talk.saved(peer, right) == []


def test_at_rest_any_position_serves_if_every_part_gives_its_state() -> None:
    room = begun()
    for value in range(6):
        room.feed(value)
    assert room.talk.newest(WHOLE)[0] == 4
    for name, part in room.parts.items():
        room.say([To(CLIENT, part.snapshot())], sender=name)
    assert room.talk.newest(WHOLE) == (6, Whole(WHOLE, range(6)).state(6, WHOLE))
    before = room.num_tokens
    replaced(room, ["a"], [("d", Span(0, 1))])
    assert room.num_tokens == before


def test_another_owner_goes_on_from_what_is_safe() -> None:
    room = begun()
    for value in range(6):
        room.feed(value)
    position, blocks = room.talk.newest(WHOLE)
    other = Room()
    other.talk = Conversation(WHOLE, snapshot_tokens=4, epoch=50, position=position, blocks=blocks)
    other.say(other.talk.begin([("x", Span(0, 2)), ("y", Span(2, 4))]))
    other.feed(70, 71)
    assert other.received == Whole(WHOLE, [0, 1, 2, 3, 70, 71]).outputs[4:]


@pytest.mark.parametrize("index", [1, 2])
def test_the_client_carries_an_edge_from_what_is_safe_on(index: int) -> None:
    room = begun()
    for value in range(6):
        room.feed(value)
    room.say(room.talk.carry(index))
    assert room.parts[CHAIN[index][0]].before == CLIENT
    assert room.parts[CHAIN[index - 1][0]].next == CLIENT
    for value in range(6, 10):
        room.feed(value)
    assert room.received == Whole(WHOLE, range(10)).outputs
    feed = room.talk.legs[index].feed
    assert feed is not None and (feed.start, feed.end) == (8, 10)


def test_a_carried_edge_need_not_carry_what_everybody_has_passed() -> None:
    room = begun()
    for value in range(6):
        room.feed(value)
    talk = room.talk
    talk.carry(1)  # and what it says is lost
    for name, part in room.parts.items():
        talk.saved(name, part.snapshot())
    feed = talk.legs[1].feed
    assert feed is not None and (feed.start, feed.end) == (6, 6)


def test_neighbours_that_are_lost_are_one_range() -> None:
    talk = begun().talk
    assert talk.lost([]) == talk.lost(["stranger"]) == []
    assert talk.lost(["a", "b"]) == [Lost(0, 2, Span(0, 3))]
    assert talk.lost(["a", "c"]) == [Lost(0, 1, Span(0, 1)), Lost(2, 3, Span(3, 4))]


def test_a_nudge_finds_whatever_was_lost_on_the_way() -> None:
    room = begun()
    room.feed(0, 1)
    room.talk.feed(Tokens((2,)))  # lost on the way
    assert room.received == Whole(WHOLE, range(2)).outputs
    room.say(room.talk.nudge())
    assert room.received == Whole(WHOLE, range(3)).outputs


def test_a_nudge_brings_a_lost_reroute() -> None:
    room = begun()
    room.feed(0, 1)
    saying = room.talk.replace(Lost(1, 2, Span(1, 3)), [("d", Span(1, 3))])
    room.say([to for to in saying if not isinstance(to.message, Reroute)])
    room.feed(2)
    assert room.talk.received == 2
    room.say(room.talk.nudge())
    assert room.received == Whole(WHOLE, range(3)).outputs
