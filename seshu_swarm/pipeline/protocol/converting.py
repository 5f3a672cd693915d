"""What of the messages on STEPS is what in `pipeline.messages`."""

from __future__ import annotations

from collections.abc import Iterable

from seshu_swarm.pipeline.messages import (
    Commit,
    Feed,
    Join,
    Open,
    Order,
    Phase,
    Seal,
    StageFeed,
    Status,
)
from seshu_swarm.pipeline.protocol.fields import of_ids, of_version, to_ids, to_version
from seshu_swarm.pipeline.protocol.steps import FeedMessage, GroupFeed, OrderMessage, StatusMessage


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
