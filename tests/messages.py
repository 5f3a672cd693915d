"""Messages that only tests send: a question, and free facts as the answer."""

from __future__ import annotations

from typing import Any

from seshu_swarm.streams.protocol import Message


class Question(Message):
    pass


class Facts(Message):
    facts: dict[str, Any]
