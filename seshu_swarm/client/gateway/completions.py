"""The shape of `/v1/completions`: `text_completion` objects, whole or in pieces. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seshu_swarm.client.gateway.requests import CompletionBody
from seshu_swarm.client.gateway.text import Placed, token_text

BODY = CompletionBody
WHOLE = PART = "text_completion"
ID_PREFIX = "cmpl-"


def first_events(index: int) -> list[dict[str, Any]]:
    """What a stream says of a choice before its text."""
    return []


def choice(
    index: int, text: str, tokens: Sequence[Placed] | None, finish_reason: str | None
) -> dict[str, Any]:
    """A choice of a whole answer; `tokens` is None where no log-probabilities were asked for."""
    logprobs = None if tokens is None else _logprobs(tokens)
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


part = choice


def _logprobs(tokens: Sequence[Placed]) -> dict[str, Any]:
    """As OpenAI's: the first token of a text is not scored, and its entries are null."""
    return {
        "tokens": [token_text(t.scored.id) for t in tokens],
        "token_logprobs": [t.scored.logprob for t in tokens],
        "top_logprobs": [
            None if t.scored.logprob is None else {token_text(i): p for i, p in t.scored.top}
            for t in tokens
        ],
        "text_offset": [t.offset for t in tokens],
    }
