"""What only tests say on a stream: a question, and free facts as the answer."""

from __future__ import annotations

from typing import Any

from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import Message

TALK = "seshu/test-talk"


class Question(Message):
    pass


class Facts(Message):
    facts: dict[str, Any]


async def answer_status(channel: Channel) -> None:
    """Ask, answer, ask, answer, until the other side ends the stream as agreed."""
    while await channel.receive_or_end(Question, seconds=5, what="a question"):
        await channel.send(Facts(facts={"peer": channel.peer_id}))
