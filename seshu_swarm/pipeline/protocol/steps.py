"""STEPS: a member (a stage's replica, or a trainer) to the conductor, for as long as it lives.

Enlist → Enlisted, then what each has to tell the other, in any order.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from seshu_swarm.pipeline.protocol.fields import (
    MAX_GROUPS,
    MAX_MEMBERS,
    Group,
    Ids,
    Name,
    Round,
    VersionPair,
)
from seshu_swarm.records.fields import Count, PlanId, Rate, ShortText
from seshu_swarm.streams.protocol import Message

STEPS = "seshu/steps"

HEARTBEAT_SECONDS = 0.5
# A member that is silent for so long is taken for lost.
LOST_SECONDS = 5.0
# The conductor says something to everybody this often; one that is silent for much longer is dialled again.
# Between two steps it may wait for members' states.
CONDUCTOR_SECONDS, CONDUCTOR_LOST_SECONDS = 5.0, 45.0

MAX_ASKED = 1 << 18
# Those that follow must still be numbers of a message.
MAX_FIRST_NUMBER = 1 << 52


def _few_asked(tables: list[dict[str, list[int]]]) -> list[dict[str, list[int]]]:
    count = sum(1 + len(numbers) for table in tables for numbers in table.values())
    if count > MAX_ASKED:
        raise ValueError(f"{count} numbers, at most {MAX_ASKED}")
    return tables


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
