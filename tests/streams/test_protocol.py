"""Messages: strict types at the edge; refusals by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm import WIRE_VERSION
from seshu_swarm.errors import ProtocolError, WireVersionError
from seshu_swarm.exchange.session_messages import EdgePiece, OpenPart
from seshu_swarm.streams import protocol
from seshu_swarm.streams.channel import refusal
from seshu_swarm.streams.protocol import (
    AskVerdict,
    BlobRequest,
    FetchFile,
    Hello,
    IntakeRequest,
    Message,
    OfferPackage,
    Refusal,
    Verdict,
    parse,
)

DIGEST = "ab" * 32
PART = bytes(16)
ADDRESS = "QmPeer#" + "0" * 32
OPEN = OpenPart(
    part_id=PART,
    epoch=0,
    revision=DIGEST,
    start=0,
    end=2,
    before="",
    next=ADDRESS,
    position=0,
    state_bytes=0,
    snapshot_tokens=64,
    wire_type="float32",
)
PIECE = EdgePiece(
    to=PART, sender=PART, epoch=0, position=3, hidden={"dtype": "float32"}, seconds=0.0
)


@pytest.mark.parametrize(
    "message",
    [
        Hello(run_id="run"),
        OPEN,
        PIECE,
        BlobRequest(request=FetchFile(digest=DIGEST, name="config.json", offset=4)),
        BlobRequest(request=OfferPackage(manifest=b"{}")),
        IntakeRequest(request=AskVerdict(digest=DIGEST)),
        Verdict(state="pending", reason="", gain="", next_step="", round_index=1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_round_trip(message: Message) -> None:
    assert parse(type(message), message.model_dump()) == message


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (OpenPart, {**OPEN.model_dump(), "part_id": bytes(15)}, "part_id"),
        (OpenPart, {**OPEN.model_dump(), "next": "QmPeer"}, "next"),
        (OpenPart, {**OPEN.model_dump(), "snapshot_tokens": 0}, "snapshot_tokens"),
        (OpenPart, {**OPEN.model_dump(), "wire_type": "float16"}, "wire_type"),
        (EdgePiece, {**PIECE.model_dump(), "seconds": -0.1}, "seconds"),
        (EdgePiece, {**PIECE.model_dump(), "type": "at"}, "type"),
        (OpenPart, {**OPEN.model_dump(), "epoch": -1}, "epoch"),
        (OpenPart, {**OPEN.model_dump(), "start": True}, "start"),
        (OpenPart, {**OPEN.model_dump(), "end": 2.0}, "end"),
        (OpenPart, {**OPEN.model_dump(), "debt": 1}, "debt"),
        (OpenPart, {}, "Field required"),
        (OpenPart, None, "OpenPart"),
        (OpenPart, [1, 2], "OpenPart"),
        (BlobRequest, {"request": {"digest": DIGEST, "name": "", "offset": 0}}, "name"),
        (BlobRequest, {"request": {"digest": DIGEST, "name": "x" * 201, "offset": 0}}, "name"),
        (BlobRequest, {"request": {"manifest": "text"}}, "malformed at request"),
        (Verdict, {"state": "maybe"}, "state"),
    ],
)
def test_what_breaks_the_protocol_is_said(kind: type[Message], body: Any, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        parse(kind, body)


NEWER = {"wire_version": WIRE_VERSION + 1, "run_id": "run", "new": 1}


@pytest.mark.parametrize("body", [None, [], {}, NEWER])
def test_a_greeting_of_another_version_is_named_whatever_else_it_holds(body: Any) -> None:
    with pytest.raises(WireVersionError, match="WIRE_VERSION_MISMATCH"):
        parse(Hello, body)


KINDS = [Hello, OpenPart, EdgePiece, BlobRequest, IntakeRequest, Verdict]
BODIES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(kind=st.sampled_from(KINDS), body=BODIES)
def test_any_other_body_is_refused_by_name(kind: type[Message], body: Any) -> None:
    with pytest.raises((ProtocolError, WireVersionError)):
        parse(kind, body)


def test_every_refusal_has_a_name_and_a_sentence_of_its_own() -> None:
    assert len({r.value for r in Refusal}) == len(Refusal)
    for which in Refusal:
        error = refusal(which, "because")
        assert error.name == which.name
        assert str(error) == f"{which.name}: {which.value}; because"


def test_streams_have_names_of_their_own() -> None:
    names = [protocol.SESSIONS, protocol.BLOBS, protocol.INTAKE]
    assert len(set(names)) == len(names) and all(name.startswith("seshu/") for name in names)
