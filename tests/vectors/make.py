"""Writes `messages.json`: one frame of every message of the session streams, and of an adapter."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from seshu_swarm.exchange.session_messages import (
    AskSnapshot,
    EdgeAt,
    EdgeAttach,
    EdgePiece,
    EdgePieces,
    Notice,
    OpenPart,
    PartOpened,
    Ping,
    Pong,
    ReroutePart,
    SnapshotChunk,
    TrimPart,
)
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord
from seshu_swarm.streams import frames, wire
from seshu_swarm.streams.frames import FrameKind
from seshu_swarm.streams.protocol import Chunk, Hello, IntakeRequest, Message, SubmitAdapter

PATH = Path(__file__).parent / "messages.json"
PART, OTHER = bytes(range(16)), bytes(range(16, 32))
PEER = "QmVectorPeer"


def messages() -> list[Message]:
    """Of every kind, with values that are easy to see in a hex dump."""
    hidden = torch.tensor([[[0.0, 1.0, -2.0, 0.5]]])
    edge = {"to": PART, "sender": OTHER, "epoch": 1}
    opened = {
        "part_id": PART,
        "epoch": 1,
        "revision": "ab" * 32,
        "start": 0,
        "end": 2,
        "before": "",
        "next": f"{PEER}#{OTHER.hex()}",
        "position": 0,
        "state_bytes": 0,
        "snapshot_tokens": 128,
        "wire_type": "float32",
    }
    return [
        Hello(run_id="vectors"),
        OpenPart.model_validate(opened),
        Chunk(data=b"state"),
        PartOpened(position=0),
        *(
            EdgePiece.model_validate(
                edge | {"position": 7, "hidden": wire.pack_tensor(hidden, dtype), "seconds": 0.25}
            )
            for dtype in wire.DTYPES
        ),
        EdgePieces(
            to=[PART, OTHER],
            sender=[OTHER, PART],
            epoch=[1, 0],
            position=[7, 128],
            hidden=wire.pack_tensor(torch.cat([hidden, -hidden])),
            seconds=[0.25, 0.0],
        ),
        EdgeAttach.model_validate(edge),
        EdgeAt.model_validate(edge | {"position": 8}),
        ReroutePart(epoch=2, before=f"{PEER}#{OTHER.hex()}", next=""),
        TrimPart(position=128),
        Ping(),
        AskSnapshot(),
        Pong(position=8, received=9, is_computing=True),
        SnapshotChunk(position=128, offset=0, total=5, data=b"state"),
        Notice(name="DRAINING"),
        IntakeRequest(request=SubmitAdapter(record=record_bytes.to_bytes(adapter_record()))),
    ]


def adapter_record() -> AdapterRecord:
    return AdapterRecord(
        run_id="vectors",
        reference=f"swarm://sha256/{'ab' * 32}",
        digest="ab" * 32,
        base_revision="cd" * 32,
        rank=16,
        language="hi",
        num_rows=900,
        licence="CC-BY-4.0",
        round_index=1,
    )


def vectors() -> list[dict[str, str]]:
    """Name, repr and frame of each message, then of the two frames that are no messages."""
    found = [
        {
            "name": type(message).__name__,
            "message": repr(message),
            "frame": frames.encode(FrameKind.MESSAGE, message.model_dump()).hex(),
        }
        for message in messages()
    ]
    refused = {"name": "MEMORY_FULL", "detail": "64 sessions are open"}
    for kind, body in ((FrameKind.REFUSAL, refused), (FrameKind.FINAL, None)):
        frame = frames.encode(kind, body).hex()
        found.append({"name": kind.name, "message": repr(body), "frame": frame})
    return found


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
