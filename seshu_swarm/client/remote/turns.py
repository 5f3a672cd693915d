"""A conversation as token ids: the template of the training rows, turn after turn. Pure.

A turn is a row: `Q: …\\nA: ` and the answer with the end token behind it; the next turn follows
directly. What a system message says stands where a row has its instruction: before the first
question.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seshu_swarm.data.prompts import prompt_for_generation
from seshu_swarm.data.text import nfc
from seshu_swarm.data.tokeniser import Tokeniser


@dataclass(frozen=True)
class Turn:
    """A question, and its answer unless that is still to come."""

    question: str
    answer: str | None = None


def question_ids(tokeniser: Tokeniser, question: str, system: str = "") -> list[int]:
    """Ids of a question up to where its answer begins."""
    prompt = prompt_for_generation(system, question) if system else prompt_for_generation(question)
    return tokeniser.encode(prompt)


def conversation_ids(tokeniser: Tokeniser, turns: Iterable[Turn], system: str = "") -> list[int]:
    """Ids of all turns in order; after a turn without an answer the model answers."""
    ids: list[int] = []
    for turn in turns:
        ids += question_ids(tokeniser, turn.question, system)
        system = ""
        if turn.answer is not None:
            ids += [*tokeniser.encode(nfc(turn.answer)), tokeniser.eos_id]
    return ids
