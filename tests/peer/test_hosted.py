"""Admission, budgets and expiry of parts; no sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seshu_swarm.errors import RefusalError
from seshu_swarm.exchange.payloads import BlockState, Hidden
from seshu_swarm.exchange.session_messages import OpenPart
from seshu_swarm.peer.guest import Limits
from seshu_swarm.peer.hosted import SESSION_SECONDS, Hosted, HostedParts
from seshu_swarm.peer.served import ServedSpan
from seshu_swarm.sessions.messages import Open
from seshu_swarm.sessions.part import Part
from seshu_swarm.spans import Span
from tests.conftest import TinyCheckpoint
from tests.spans import make_guest

SPAN = Span(1, 3)
STATE_BYTES = 10_000


@pytest.fixture(scope="module")
def served(tiny: TinyCheckpoint) -> ServedSpan:
    return ServedSpan.load(tiny.folder, tiny.revision, SPAN)


@pytest.fixture
def parts(tmp_path: Path) -> HostedParts:
    return HostedParts(make_guest(tmp_path), 2)


def asked(served: ServedSpan, number: int = 1, **other: Any) -> OpenPart:
    facts: dict[str, Any] = {
        "part_id": number.to_bytes(16),
        "epoch": 0,
        "revision": served.revision,
        "start": SPAN.start,
        "end": SPAN.end,
        "before": "",
        "next": "",
        "position": 0,
        "state_bytes": 0,
        "snapshot_tokens": 64,
        "wire_type": "float32",
    }
    return OpenPart.model_validate(facts | other)


def opened(parts: HostedParts, served: ServedSpan, number: int = 1, *, epoch: int = 0) -> Hosted:
    opening = Open[BlockState](epoch, SPAN, "", "", 0, None, 64)
    hosted = Hosted(
        part_id=number.to_bytes(16),
        client="me",
        served=served,
        part=Part[Hidden, BlockState](opening),
        wire_type="float32",
        used_at=100.0,
    )
    parts.add(hosted)
    return hosted


def test_a_part_is_found_until_it_is_closed(parts: HostedParts, served: ServedSpan) -> None:
    hosted = opened(parts, served)
    assert parts.get(hosted.part_id) is hosted and parts.all() == [hosted] and len(parts) == 1
    assert parts.of_revision(served.revision) == 1 and parts.of_revision("f" * 64) == 0
    parts.close(hosted)
    assert parts.get(hosted.part_id) is None and len(parts) == 0
    assert hosted.failed.is_set() and hosted.why is None


def test_the_same_client_goes_on_in_the_same_epoch(parts: HostedParts, served: ServedSpan) -> None:
    assert parts.again("me", asked(served)) is None
    hosted = opened(parts, served, epoch=3)
    assert parts.again("me", asked(served, epoch=3)) is hosted
    assert parts.again("me", asked(served, epoch=4)) is None
    with pytest.raises(RefusalError, match=r"EPOCH_FENCED.*epoch 2 of 3"):
        parts.again("me", asked(served, epoch=2))


@pytest.mark.parametrize("epoch", [2, 3, 4, 1 << 40])
def test_nobody_else_takes_a_part_over(parts: HostedParts, served: ServedSpan, epoch: int) -> None:
    opened(parts, served, epoch=3)
    with pytest.raises(RefusalError, match="EPOCH_FENCED"):
        parts.again("somebody", asked(served, epoch=epoch))


@pytest.mark.parametrize("other", [{"revision": "e" * 64}, {"start": 0}, {"end": 4}], ids=str)
def test_a_part_goes_on_only_as_what_it_is(
    parts: HostedParts, served: ServedSpan, other: dict[str, Any]
) -> None:
    opened(parts, served)
    with pytest.raises(RefusalError, match="REVISION_MISMATCH"):
        parts.again("me", asked(served, **other))


def test_a_newer_epoch_ends_the_older_part(parts: HostedParts, served: ServedSpan) -> None:
    older = opened(parts, served)
    newer = opened(parts, served, epoch=1)
    assert older.failed.is_set() and older.why is not None and older.why.name == "EPOCH_FENCED"
    parts.close(older)  # its stream ends, which is not the newer one's end
    assert parts.get(newer.part_id) is newer and not newer.failed.is_set()


def test_no_more_parts_than_allowed(parts: HostedParts, served: ServedSpan) -> None:
    opened(parts, served, 1)
    opened(parts, served, 2)
    with pytest.raises(RefusalError, match=r"MEMORY_FULL.*2 sessions are open"):
        parts.admit(asked(served, 3), STATE_BYTES, now=100.0)
    parts.admit(asked(served, 2, epoch=1), STATE_BYTES, now=100.0)  # takes the place of its own


def test_memory_is_asked_for_before_it_is_used(tmp_path: Path, served: ServedSpan) -> None:
    full = HostedParts(make_guest(tmp_path, Limits(max_memory_bytes=1)), 8)
    with pytest.raises(RefusalError, match=r"MEMORY_FULL.*needs 10000 bytes"):
        full.admit(asked(served), STATE_BYTES, now=0.0)


@pytest.mark.parametrize(
    ("position", "state_bytes", "name"),
    [
        (5, 1 << 30, "TOO_LARGE"),
        (5, 2 * STATE_BYTES + 65_537, "TOO_LARGE"),
        (5, 0, "MALFORMED"),
        (0, 100, "MALFORMED"),
    ],
)
def test_an_impossible_state_is_refused_before_it_is_read(
    parts: HostedParts, served: ServedSpan, position: int, state_bytes: int, name: str
) -> None:
    with pytest.raises(RefusalError, match=name):
        opening = asked(served, position=position, state_bytes=state_bytes)
        parts.admit(opening, STATE_BYTES, now=0.0)
    parts.admit(asked(served, position=5, state_bytes=STATE_BYTES + 500), STATE_BYTES, now=0.0)


def test_only_a_part_without_its_client_expires(parts: HostedParts, served: ServedSpan) -> None:
    gone, here = opened(parts, served, 1), opened(parts, served, 2)
    here.outbox = object()  # type: ignore[assignment]
    parts.expire(100.0 + SESSION_SECONDS)
    assert len(parts) == 2
    # Whoever asks next finds the room.
    parts.admit(asked(served, 3), STATE_BYTES, now=100.1 + SESSION_SECONDS)
    assert parts.all() == [here] and gone.failed.is_set()
