"""Talks as rows: one row per answer, with the talk so far as its question.

    {"messages": [{"role": "system"|"user"|"assistant", "content": TEXT}, …]}
    {"conversations": [{"from": "system"|"human"|"gpt", "value": TEXT}, …]}

The tokens of a row are those that a client sends in a conversation (`client/remote/turns`): every
earlier answer ends with the end token. An answer is trained on once, in its own row; in later ones
it is part of the question. Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seshu_swarm.data.prompts import TURN_END
from seshu_swarm.data.text import Row
from seshu_swarm.errors import DataError, shown

TALK_KEYS = ("messages", "conversations")
ROLES = {
    "system": "system",
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot"), "assistant"),
}
RULE = "system at most once and first, then user and assistant in turn"


def talk_rows(messages: object, language: str) -> list[Row]:
    """A row for each answer. A question at the end that nobody answered is left out.

    Raises DataError for a talk of another shape and for one without an answer.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise DataError(f"a talk that is {shown(messages)}", rule="a list of messages")
    said = [_said(message) for message in messages]
    system = said.pop(0)[1] if said and said[0][0] == "system" else ""
    for number, (role, text) in enumerate(said):
        if role != ("user", "assistant")[number % 2]:
            raise DataError(f"message {number + 1} is by {role!r}", rule=RULE)
        if not text.strip():
            raise DataError(f"message {number + 1} is empty", rule="every message holds text")
    turns = [(said[i][1], said[i + 1][1]) for i in range(0, len(said) - 1, 2)]
    if not turns:
        raise DataError("a talk without an answer", rule=RULE)
    return list(_rows(turns, system, language))


def _rows(turns: Sequence[tuple[str, str]], system: str, language: str) -> Iterator[Row]:
    before = ""
    for question, answer in turns:
        yield Row(system, before + question, answer, language)
        before += f"{question}\nA: {answer}{TURN_END}Q: "


def _said(message: object) -> tuple[str, str]:
    """(role, text) of a message in either spelling."""
    if not isinstance(message, Mapping):
        raise DataError(f"a message that is {shown(message)}", rule="role and content")
    role = _first(message, "role", "from")
    content = _first(message, "content", "value")
    if not isinstance(role, str) or role not in ROLES:
        raise DataError(f"a message by {shown(role)}", rule=f"one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise DataError(f"a message that is {shown(content)}", rule="its content is text")
    return ROLES[role], content


def _first(message: Mapping[str, Any], *keys: str) -> Any:
    return next((message[key] for key in keys if key in message), None)
