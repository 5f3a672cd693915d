"""Test units for scoring: a context and at most 512 bytes of native text after it.

Every byte of a text is scored in exactly one window. The end token is no byte of the text and is
never scored. Knows no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from seshu_swarm.data.prompts import prompt_ids
from seshu_swarm.data.text import Document, Row
from seshu_swarm.data.tokeniser import Tokeniser
from seshu_swarm.errors import UsageError

MAX_BYTES = 512
MAX_CONTEXT_TOKENS = 512
LONG_INPUT_BYTES = 50


@dataclass(frozen=True)
class Window:
    """`ids[num_context_tokens:]` is scored. `document` names the cluster for the bootstrap.

    `num_bytes`: UTF-8 bytes of the scored text in NFC, the denominator of bits per byte. There is
    always at least one token of context, so that the first scored token has a prediction.
    """

    document: str
    ids: tuple[int, ...]
    num_context_tokens: int
    num_bytes: int


def windows_of_rows(
    tokeniser: Tokeniser,
    rows: Iterable[Row],
    *,
    max_bytes: int = MAX_BYTES,
    max_context_tokens: int = MAX_CONTEXT_TOKENS,
) -> list[Window]:
    """Windows over the answers; the context is the prompt and the answer so far, its end kept.

    Rows that share a long input (questions on one paragraph) are one cluster.
    """
    return [
        window
        for row in rows
        for window in _windows(
            tokeniser,
            _cluster(row),
            prompt_ids(tokeniser, row),
            row.output,
            max_bytes,
            max_context_tokens,
        )
    ]


def windows_of_documents(
    tokeniser: Tokeniser,
    documents: Iterable[Document],
    max_bytes: int = MAX_BYTES,
    *,
    max_context_tokens: int = MAX_CONTEXT_TOKENS,
) -> list[Window]:
    """Windows over running text; the context is the text before, or the end token at the start."""
    return [
        window
        for document in documents
        for window in _windows(
            tokeniser, document.id, [], document.text, max_bytes, max_context_tokens
        )
    ]


def num_bytes(windows: Iterable[Window]) -> int:
    """Scored native bytes of all windows."""
    return sum(window.num_bytes for window in windows)


def _cluster(row: Row) -> str:
    if len(row.input.encode()) < LONG_INPUT_BYTES:
        return row.digest[:16]
    return hashlib.sha256(row.input.encode()).hexdigest()[:16]


def _windows(
    tokeniser: Tokeniser,
    document: str,
    prompt: Sequence[int],
    text: str,
    max_bytes: int,
    max_context_tokens: int,
) -> Iterator[Window]:
    # A packed document follows an end token, so that is what a text without a prompt starts after.
    before: Sequence[int] = prompt or [tokeniser.eos_id]
    for piece in pieces(text, max_bytes):
        ids = tokeniser.encode(piece)
        context = before[-max_context_tokens:]
        yield Window(document, (*context, *ids), len(context), len(piece.encode("utf-8")))
        before = [*context, *ids]


def pieces(text: str, max_bytes: int) -> list[str]:
    """`text` cut into pieces of at most `max_bytes` UTF-8 bytes, never inside a character.

    Raises UsageError below 4 bytes, the longest character.
    """
    if max_bytes < 4:
        raise UsageError(f"pieces of {max_bytes} bytes", rule="at least 4, a whole character")
    data, found, start = text.encode("utf-8"), [], 0
    while start < len(data):
        end = min(start + max_bytes, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # a continuation byte
            end -= 1
        found.append(data[start:end].decode("utf-8"))
        start = end
    return found
