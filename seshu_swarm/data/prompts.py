"""A row as text and as ids: one short template, because bytes are tokens.

    Q: Name in Hindi
    Japan
    A: जापान

Loss and score are on the answer and its end token only. A row without instruction and input is
plain text: its prompt is empty. A row's input may hold a talk: where an earlier answer ends in it
stands `TURN_END`, which becomes the end token, as it does when a client talks.
"""

from __future__ import annotations

from collections.abc import Callable

from seshu_swarm.data.text import Row, nfc
from seshu_swarm.data.tokeniser import Tokeniser
from seshu_swarm.errors import UsageError

MINIMUM_TOKENS = 8
TURN_END = "\x1e"  # Unicode's record separator


def prompt_for_generation(instruction: str, input: str = "") -> str:
    """The text a model continues with its answer."""
    instruction, input = nfc(instruction), nfc(input)
    if not instruction and not input:
        return ""
    question = "\n".join(part for part in (instruction, input) if part)
    return f"Q: {question}\nA: "


def prompt_of(row: Row) -> str:
    """The text before the row's answer."""
    return prompt_for_generation(row.instruction, row.input)


def prompt_ids(tokeniser: Tokeniser, row: Row) -> list[int]:
    """Ids of the row's prompt, with the end token behind each earlier answer in it."""
    return ids_between_ends(tokeniser.encode, tokeniser.eos_id, prompt_of(row))


def ids_between_ends(
    encode: Callable[[str], list[int]], end_id: int | None, prompt: str
) -> list[int]:
    """Ids of a prompt, with `end_id` (if there is one) for each TURN_END."""
    first, *later = prompt.split(TURN_END)
    ids = encode(first)
    for turn in later:
        ids += [*([] if end_id is None else [end_id]), *encode(turn)]
    return ids


def encode_row(tokeniser: Tokeniser, row: Row, max_tokens: int) -> tuple[list[int], int]:
    """`(ids, num_prompt_tokens)`: prompt, answer and end token in at most `max_tokens` ids.

    A row that is too long keeps the end of its prompt, next to the answer. Only an answer that
    leaves less than a quarter of the room is cut itself, at its end, and then has no end token.
    Raises UsageError for fewer than 8 tokens.
    """
    if max_tokens < MINIMUM_TOKENS:
        raise UsageError(f"{max_tokens} tokens for a row", rule=f"at least {MINIMUM_TOKENS}")
    prompt = prompt_ids(tokeniser, row)
    answer = [*tokeniser.encode(row.output), tokeniser.eos_id]
    num_prompt_tokens = min(len(prompt), max(max_tokens - len(answer), max_tokens // 4))
    prompt = prompt[len(prompt) - num_prompt_tokens :]
    return prompt + answer[: max_tokens - num_prompt_tokens], num_prompt_tokens
