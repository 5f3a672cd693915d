"""Exactly-once steps: the state machine alone, then through drop, duplicate, reorder and kill."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seshu_swarm.errors import RefusalError
from seshu_swarm.peer.sessions import SESSION_SECONDS, Session, Sessions, advance, remembered
from seshu_swarm.protocol import OpenSession
from seshu_swarm.spans import Span

REVISION, OTHER = "ab" * 32, "cd" * 32
State = tuple[int, ...]  # all tokens absorbed: what a step done twice would show


def ask(epoch: int = 0, *, session: int = 0, **other: object) -> OpenSession:
    facts: dict[str, object] = {
        "session_id": f"{session:032x}",
        "epoch": epoch,
        "revision": REVISION,
        "start": 0,
        "end": 2,
    }
    return OpenSession.model_validate(facts | other)


def fresh(max_sessions: int = 4) -> Sessions[State, str]:
    return Sessions(max_sessions)


def refused(name: str) -> pytest.RaisesExc[RefusalError]:
    return pytest.RaisesExc(RefusalError, check=lambda error: error.name == name)


def test_a_session_begins_at_zero_and_is_found_again() -> None:
    sessions = fresh()
    assert sessions.find("me", ask()) is None
    session = sessions.open("me", ask(), (), now=0.0)
    assert session.position == 0 and session.span == Span(0, 2)
    assert sessions.find("me", ask()) is session
    assert sessions.find("another", ask()) is None
    assert len(sessions) == sessions.of_revision(REVISION) == 1
    assert sessions.of_revision(OTHER) == 0


def test_a_step_is_taken_once_repeated_from_memory_and_never_skipped() -> None:
    session = fresh().open("me", ask(), (), now=0.0)
    assert remembered(session, 0) is None
    advance(session, (7, 8), "first", 2, now=1.0)
    assert session.position == 2 and session.state == (7, 8)
    assert remembered(session, 0) == "first"
    assert remembered(session, 2) is None
    advance(session, (7, 8, 9), "second", 1, now=2.0)
    assert remembered(session, 2) == "second"
    for position in (0, 1, 4, 100):
        with refused("POSITION_MISMATCH"):
            remembered(session, position)


def test_a_step_under_way_lets_no_other_in() -> None:
    session = fresh().open("me", ask(), (), now=0.0)
    session.is_stepping = True
    with refused("POSITION_MISMATCH"):
        remembered(session, 0)


def test_a_newer_epoch_fences_the_older_one() -> None:
    sessions = fresh()
    old = sessions.open("me", ask(epoch=1), (), now=0.0)
    assert sessions.find("me", ask(epoch=2)) is None
    new = sessions.open("me", ask(epoch=2), (), now=1.0)
    assert not sessions.is_current("me", ask().session_id, old)
    with refused("EPOCH_FENCED"):
        sessions.find("me", ask(epoch=1))
    sessions.close("me", ask().session_id, old)
    assert sessions.find("me", ask(epoch=2)) is new
    sessions.close("me", ask().session_id, new)
    assert len(sessions) == 0


@pytest.mark.parametrize("other", [{"revision": OTHER}, {"start": 1}, {"end": 3}])
def test_a_session_goes_on_with_what_it_began_with(other: dict[str, object]) -> None:
    sessions = fresh()
    sessions.open("me", ask(), (), now=0.0)
    with refused("REVISION_MISMATCH"):
        sessions.find("me", ask(**other))  # type: ignore[arg-type]


def test_memory_is_bounded_and_the_unused_gives_way_in_time() -> None:
    sessions = fresh(max_sessions=2)
    for number in range(2):
        sessions.open("me", ask(session=number), (), now=0.0)
    with refused("MEMORY_FULL"):
        sessions.open("me", ask(session=2), (), now=SESSION_SECONDS)
    # A new epoch of a session that is there takes its own place.
    sessions.open("me", ask(epoch=1, session=1), (), now=SESSION_SECONDS)
    sessions.open("me", ask(session=2), (), now=SESSION_SECONDS + 0.1)
    assert sessions.find("me", ask(session=0)) is None
    assert sessions.find("me", ask(epoch=1, session=1)) is not None


class Peer:
    """A span that doubles tokens, behind the state machine, as `serving` drives it."""

    def __init__(self) -> None:
        self.sessions: Sessions[State, State] = Sessions(4)
        self.session: Session[State, State] | None = None

    def open(self, epoch: int) -> int:
        asked = ask(epoch)
        self.session = self.sessions.find("me", asked) or self.sessions.open("me", asked, (), 0.0)
        return self.session.position

    def step(self, position: int, tokens: State) -> State:
        assert self.session is not None
        if (again := remembered(self.session, position)) is not None:
            return again
        output = tuple(2 * token for token in tokens)
        advance(self.session, self.session.state + tokens, output, len(tokens), 0.0)
        return output


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), loss=st.sampled_from([0.0, 0.2, 0.5]))
def test_whatever_the_network_does_every_token_is_absorbed_once(seed: int, loss: float) -> None:
    rng = random.Random(seed)
    peer, epoch, position = Peer(), 0, 0
    peer.open(epoch)
    sent: list[tuple[int, State]] = []
    outputs: list[State] = []
    tokens = [tuple(rng.randrange(99) for _ in range(rng.randint(1, 4))) for _ in range(12)]
    for piece in tokens:
        while True:
            if sent and rng.random() < 0.3:  # an older message comes late, or twice
                with_old = rng.choice(sent)
                try:
                    peer.step(*with_old)
                except RefusalError as error:
                    assert error.name == "POSITION_MISMATCH"
            if rng.random() < 0.1:  # the peer is killed: a fresh one is caught up in one piece
                peer, epoch = Peer(), epoch + 1
                peer.open(epoch)
                absorbed = tuple(token for _, old in sent for token in old)
                if absorbed:
                    peer.step(0, absorbed)
            if rng.random() < loss:  # the request is lost
                continue
            output = peer.step(position, piece)
            if rng.random() < loss:  # the reply is lost: the client asks again
                continue
            break
        sent.append((position, piece))
        outputs.append(output)
        position += len(piece)
    assert peer.session is not None
    assert peer.session.state == tuple(token for piece in tokens for token in piece)
    assert outputs == [tuple(2 * token for token in piece) for piece in tokens]
