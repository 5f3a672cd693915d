"""The language of the swarm: stream names, messages, and every refusal by name.

Pure. Messages are frozen and strict: what arrives becomes one of these types at the edge, or is
refused. Tensors inside messages stay packed (`wire` checks them against the expected shape).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from seshu_swarm import WIRE_VERSION
from seshu_swarm.errors import ProtocolError
from seshu_swarm.records.encoding import check_wire_version
from seshu_swarm.records.fields import Count, Digest, RunId, ShortText

SESSIONS = "seshu/sessions"
BLOBS = "seshu/blobs"
INTAKE = "seshu/intake"

CHUNK_BYTES = 1 << 20


class Refusal(StrEnum):
    """A peer's named no; the sentence beside it is what the peer means."""

    WIRE_VERSION_MISMATCH = "I speak another wire version"
    MALFORMED = "your message breaks the protocol"
    RUN_UNKNOWN = "I am not part of that run"
    SPAN_MOVED = "I do not host these blocks"
    REVISION_MISMATCH = "I do not serve that revision"
    POSITION_MISMATCH = "the step does not continue the session's position"
    EPOCH_FENCED = "the session has a newer owner"
    MEMORY_FULL = "no memory is left for another session"
    DRAINING = "I am leaving and take no new sessions"
    PAUSED = "my owner paused me"
    NOT_FOUND = "I do not hold that file"
    UPLOAD_LIMIT = "my upload for today is used up"
    TOO_LARGE = "that is larger than I accept"
    RATE_LIMITED = "you ask too often"
    NOT_OWNER = "the record is not yours"
    STALE_BASE = "the adapter was trained on another revision"
    ROUND_CLOSED = "this round takes no more adapters"
    NOT_FOR_MERGING = "the adapter is offered for a task, not for merging"
    NOT_TRAINING = "there is no such pipelined training here"
    WRONG_VERSION = "these are not the weights I have"
    NOT_IN_STEP = "this microbatch is not in the list of the step"
    WRONG_ROUND = "the stage is in another round"
    SEALED = "I count no more in this round"
    WITHDRAWN = "its trainer has withdrawn this attempt"
    AVOIDED = "you sent what cannot be used, and are avoided for a while"
    INTERNAL = "I failed; my log says why"


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Hello(Message):
    """First message of every stream: both sides check it before anything else."""

    wire_version: int = WIRE_VERSION
    run_id: RunId


class FetchFile(Message):
    """Bytes of a file of the package `digest` from `offset` on."""

    digest: Digest
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    offset: Count


class Chunk(Message):
    data: bytes


class OfferPackage(Message):
    """Please hold this package: its manifest, whose digest names it."""

    manifest: Annotated[bytes, Field(max_length=1 << 20)]


class BlobRequest(Message):
    """First message on BLOBS."""

    request: FetchFile | OfferPackage


class WantFiles(Message):
    """Names that the holder lacks; the offering side sends them in this order."""

    names: list[str]


class Stored(Message):
    digest: Digest


class SubmitAdapter(Message):
    """An AdapterRecord as stored in the DHT (`records.to_bytes`)."""

    record: Annotated[bytes, Field(max_length=2_048)]


class AskVerdict(Message):
    digest: Digest


class IntakeRequest(Message):
    """First message on INTAKE."""

    request: SubmitAdapter | AskVerdict


class Verdict(Message):
    """What the coordinator says of an adapter; gains are rounded, names of others never shown."""

    state: Annotated[str, StringConstraints(pattern=r"^(unknown|pending|accepted|rejected)$")]
    reason: ShortText
    gain: ShortText
    next_step: ShortText
    round_index: Count


Kind = TypeVar("Kind", bound=Message)


def parse(kind: type[Kind], body: Any) -> Kind:
    """Read a message of the expected kind. Raises ProtocolError or WireVersionError."""
    if kind is Hello:
        check_wire_version(body)
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or kind.__name__
        raise ProtocolError(f"{kind.__name__} malformed at {where}: {first['msg']}") from None
