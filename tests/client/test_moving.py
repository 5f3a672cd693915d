"""A host that chooses other blocks: told of when they are loaded, and back where it was when they are not."""

from __future__ import annotations

import pytest

from seshu_swarm.errors import PeerLostError
from seshu_swarm.spans import Span
from tests.client.rolls import Hosted, Rolling
from tests.conftest import TinyCheckpoint

OLD, NEW = Span(0, 2), Span(2, 4)


def loaded(host: Hosted) -> set[Span]:
    """Blocks of every revision that it serves."""
    service = host.peer._service
    return {served.span for r in service.revisions if (served := service.served(r)) is not None}


@pytest.mark.parametrize("is_cramped", [False, True])
def test_a_host_moves_with_or_without_room_for_both(
    rolling: Rolling, revisions: list[TinyCheckpoint], is_cramped: bool
) -> None:
    host = rolling.hosted(f"moving-{is_cramped}", "0:2", is_cramped=is_cramped)
    rolling.run(host.peer._move(NEW))
    assert loaded(host) == {NEW} and host.peer._span == NEW
    assert host.revisions == (revisions[0].revision,)
    assert not host.peer._service.is_draining


@pytest.mark.parametrize("step", ["_fetch", "_load"])
def test_a_move_that_fails_leaves_the_host_where_it_was(
    rolling: Rolling, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = rolling.hosted(f"staying-{step}", "0:2")
    usual = getattr(host.peer, step)

    async def fails(revision: str, span: Span) -> object:
        if span == NEW:
            raise PeerLostError("whoever holds these blocks has gone")
        return await usual(revision, span)

    monkeypatch.setattr(host.peer, step, fails)
    with pytest.raises(PeerLostError):
        rolling.run(host.peer._move(NEW))
    assert loaded(host) == {OLD} and host.peer._span == OLD
    assert not host.peer._service.is_draining
