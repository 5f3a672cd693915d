"""Messages of the pipeline's streams, strict and frozen, and what of them is what in `messages`. Pure.

    STEPS      a member (a stage's replica, or a trainer) to the conductor, for as long as it lives:
               Enlist → Enlisted, then what each has to tell the other, in any order
    PASSES     a trainer to a replica, one stream for one pass: AskStagePass → StagePassed
    AVERAGES   a member to another of its group, one stream for one shard: GiveShard, Chunks →
               ShardAveraged, Chunks
    STATES     weights and moments of a group at a version: AskGroupState → GroupState, Chunks

Groups are numbered: stage 0, 1, … and after the last stage the ends, whose replicas are the trainers.
A member's **name** is `PEER#LIFE`, new at each start. Ids travel as {trainer's name: [numbers]}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from seshu_swarm.pipeline.messages import (
    Call,
    Commit,
    Feed,
    Join,
    MicrobatchId,
    Open,
    Order,
    Phase,
    Seal,
    StageFeed,
    Status,
    Version,
    Withdrawal,
)
from seshu_swarm.protocol import Message
from seshu_swarm.records import Count, Digest, Rate, ShortText

STEPS = "seshu/steps"
PASSES = "seshu/passes"
AVERAGES = "seshu/averages"
STATES = "seshu/states"

HEARTBEAT_SECONDS = 0.5
# A member that is silent for so long is taken for lost.
LOST_SECONDS = 5.0
# The conductor says something to everybody this often; one that is silent for much longer is dialled again.
# Between two steps it may wait for members' states.
CONDUCTOR_SECONDS, CONDUCTOR_LOST_SECONDS = 5.0, 45.0

MAX_GROUPS = 1_000
MAX_MEMBERS = 1_000
# Together, whoever's they are.
MAX_IDS = 4_096
MAX_ASKED = 1 << 18
# Those that follow must still be numbers of a message.
MAX_FIRST_NUMBER = 1 << 52


def _few_ids(table: dict[str, list[int]]) -> dict[str, list[int]]:
    if (count := sum(map(len, table.values()))) > MAX_IDS:
        raise ValueError(f"{count} ids, at most {MAX_IDS}")
    return table


def _few_asked(tables: list[dict[str, list[int]]]) -> list[dict[str, list[int]]]:
    count = sum(1 + len(numbers) for table in tables for numbers in table.values())
    if count > MAX_ASKED:
        raise ValueError(f"{count} numbers, at most {MAX_ASKED}")
    return tables


PlanId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,100}#[0-9a-f]{8}$")]
Group = Annotated[int, Field(ge=0, lt=MAX_GROUPS)]
# Of `Version`: step, round; (-1, -1) is nothing.
VersionPair = Annotated[
    list[Annotated[int, Field(ge=-1, le=1 << 53)]], Field(min_length=2, max_length=2)
]
Round = Annotated[int, Field(ge=-1, le=1 << 53)]
Ids = Annotated[dict[Name, list[Count]], Field(max_length=MAX_MEMBERS), AfterValidator(_few_ids)]


class Enlist(Message):
    """First message on STEPS. `group`: of a replica, its stage, or None for the one that lacks it most;
    of a trainer None. `number`: the first microbatch that a trainer has not been asked for."""

    type: Literal["enlist"] = "enlist"
    plan: PlanId
    name: Name
    is_trainer: bool
    group: Group | None = None
    number: Annotated[int, Field(ge=0, le=MAX_FIRST_NUMBER)] = 0


class Enlisted(Message):
    """Its group, and the newest weights there: FIRST are those of the plan's base."""

    type: Literal["enlisted"] = "enlisted"
    group: Group
    version: VersionPair


class StatusMessage(Message):
    """`Status` of a member's ledger; sent when it changes, and every HEARTBEAT_SECONDS."""

    type: Literal["status"] = "status"
    version: VersionPair
    round: Round
    phase: Annotated[int, Field(ge=0, le=3)]
    claim: Ids
    lacking: Annotated[list[Name], Field(max_length=MAX_MEMBERS)] = Field(default_factory=list)


class FedMessage(Message):
    """A trainer's word on its microbatches of a step. `rounds`: for each group, the newest round in which
    all that it lacked of this trainer is counted, or -1. `asked`: for each stage, which replica was asked to
    count which numbers. `nats` and `tokens`: of the microbatches whose loss is known."""

    type: Literal["fed"] = "fed"
    step: Count
    rounds: Annotated[list[Round], Field(max_length=MAX_GROUPS)]
    asked: Annotated[
        list[Annotated[dict[Name, list[Count]], Field(max_length=MAX_MEMBERS)]],
        Field(max_length=MAX_GROUPS),
        AfterValidator(_few_asked),
    ]
    nats: Rate
    tokens: Count


class Complaint(Message):
    """A trainer has a reason to avoid a replica, or a member another one of its group that spoils averages.
    The conductor writes it down."""

    type: Literal["complaint"] = "complaint"
    name: Name
    reason: ShortText


class OrderMessage(Message):
    """An `Order`, to one member. `ids` of open; `members` of commit, name and number of ids; `source` of
    join."""

    type: Literal["order"] = "order"
    kind: Literal["open", "seal", "commit", "join"]
    version: VersionPair
    round: Round = -1
    ids: Ids = Field(default_factory=dict)
    keeps: bool = False
    members: Annotated[dict[Name, Count], Field(max_length=MAX_MEMBERS)] = Field(
        default_factory=dict
    )
    source: Name | None = None


class GroupFeed(Message):
    """`StageFeed`, and the replicas that have these weights."""

    version: VersionPair
    round: Round
    missing: Ids
    replicas: Annotated[list[Name], Field(max_length=MAX_MEMBERS)]


class FeedMessage(Message):
    """`Feed`, to all trainers; the last group is that of the ends. `is_over`: the plan is done."""

    type: Literal["feed"] = "feed"
    step: Annotated[int, Field(ge=-1, le=1 << 53)]
    ids: Ids
    groups: Annotated[list[GroupFeed], Field(max_length=MAX_GROUPS)]
    is_over: bool = False


FROM_MEMBER: dict[str, type[Message]] = {
    "status": StatusMessage,
    "fed": FedMessage,
    "complaint": Complaint,
}
FROM_CONDUCTOR: dict[str, type[Message]] = {"order": OrderMessage, "feed": FeedMessage}


class AskStagePass(Message):
    """One microbatch through the stage. Shapes: B rows, L tokens, M d_model.

    Forward: `hidden` (B, L, M), and nothing else; the replica may keep what it computed. Backward: `gradient`
    (B, L, M) by the output, `round` and `attempt`; `hidden` is left out at first, as the replica may have
    kept the forward pass. If it has not, it answers `StagePassed(is_wanting=True)` and
    the same message comes again with `hidden`, on the same stream.
    """

    plan: PlanId
    stage: Group
    trainer: Name
    number: Count
    version: VersionPair
    round: Round = -1
    attempt: Count = 0
    hidden: dict[str, Any] | None = None
    gradient: dict[str, Any] | None = None

    @property
    def id(self) -> MicrobatchId:
        return MicrobatchId(self.trainer, self.number)

    @property
    def call(self) -> Call:
        return Call(self.id, to_version(self.version), self.round, self.attempt)


class WithdrawPass(Message):
    """`Withdrawal`; alone on its stream of PASSES, without an answer."""

    plan: PlanId
    stage: Group
    trainer: Name
    number: Count
    round: Round
    attempt: Count

    @property
    def withdrawal(self) -> Withdrawal:
        return Withdrawal(MicrobatchId(self.trainer, self.number), self.round, self.attempt)


class PassRequest(Message):
    """First message on PASSES."""

    request: AskStagePass | WithdrawPass


class StagePassed(Message):
    """The output, or the gradient by the input (B, L, M), and what it took; or a wish for `hidden`.
    `wait_seconds`: until the pass had its turn."""

    values: dict[str, Any] | None = None
    compute_seconds: Rate = 0.0
    wait_seconds: Rate = 0.0
    is_wanting: bool = False


class GiveShard(Message):
    """First message on AVERAGES: the sender's part of the shard that the receiver averages; `num_bytes` of
    float32 follow as Chunks, the sum over the `weight` ids that the sender counted."""

    plan: PlanId
    group: Group
    version: VersionPair
    round: Round
    sender: Name
    weight: Count
    num_bytes: Count


class ShardAveraged(Message):
    """The receiver's shard, averaged over all members, follows as Chunks."""

    num_bytes: Count


class AskGroupState(Message):
    """First message on STATES."""

    plan: PlanId
    group: Group
    version: VersionPair


class GroupState(Message):
    """A safetensors file follows as Chunks; `sha256` is that of its bytes."""

    num_bytes: Count
    sha256: Digest


def of_version(version: Version) -> list[int]:
    return list(version)


def to_version(pair: list[int]) -> Version:
    return Version(*pair)


def of_ids(ids: Iterable[MicrobatchId]) -> dict[str, list[int]]:
    table: dict[str, list[int]] = {}
    for id_ in sorted(ids):
        table.setdefault(id_.trainer, []).append(id_.number)
    return table


def to_ids(table: Mapping[str, Iterable[int]]) -> frozenset[MicrobatchId]:
    return frozenset(MicrobatchId(name, number) for name in table for number in table[name])


def of_status(status: Status) -> StatusMessage:
    return StatusMessage(
        version=of_version(status.version),
        round=status.round,
        phase=int(status.phase),
        claim=of_ids(status.claim),
        lacking=sorted(status.lacking),
    )


def to_status(message: StatusMessage) -> Status:
    return Status(
        to_version(message.version),
        message.round,
        Phase(message.phase),
        to_ids(message.claim),
        frozenset(message.lacking),
    )


def of_order(order: Order) -> OrderMessage:
    version = of_version(order.version)
    match order:
        case Open():
            return OrderMessage(
                kind="open",
                version=version,
                round=order.round,
                ids=of_ids(order.ids),
                keeps=order.keeps,
            )
        case Seal():
            return OrderMessage(kind="seal", version=version, round=order.round)
        case Commit():
            return OrderMessage(
                kind="commit", version=version, round=order.round, members=dict(order.members)
            )
        case Join():
            return OrderMessage(kind="join", version=version, source=order.source)


def to_order(message: OrderMessage) -> Order:
    version = to_version(message.version)
    match message.kind:
        case "open":
            return Open(version, message.round, to_ids(message.ids), message.keeps)
        case "seal":
            return Seal(version, message.round)
        case "commit":
            return Commit(version, message.round, tuple(sorted(message.members.items())))
        case "join":
            return Join(version, message.source or "")


def of_feed(feed: Feed, replicas: Iterable[Iterable[str]], *, is_over: bool = False) -> FeedMessage:
    """`replicas`: of each group, those that have its weights."""
    return FeedMessage(
        step=feed.step,
        ids=of_ids(feed.ids),
        groups=[
            GroupFeed(
                version=of_version(told.version),
                round=told.round,
                missing=of_ids(told.missing),
                replicas=sorted(names),
            )
            for told, names in zip(feed.stages, replicas, strict=True)
        ],
        is_over=is_over,
    )


def to_feed(message: FeedMessage) -> Feed:
    """With the ends as its last stage."""
    stages = (StageFeed(to_version(g.version), g.round, to_ids(g.missing)) for g in message.groups)
    return Feed(message.step, to_ids(message.ids), tuple(stages))


def peer_of(name: str) -> str:
    """The peer id in a member's name."""
    return name.partition("#")[0]
