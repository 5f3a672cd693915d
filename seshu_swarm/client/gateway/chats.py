"""The shape of `/v1/chat/completions`: messages, whole or as deltas. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seshu_swarm.client.gateway.requests import ChatBody
from seshu_swarm.client.gateway.text import Placed, token_bytes, token_text

BODY = ChatBody
WHOLE = "chat.completion"
PART = "chat.completion.chunk"
ID_PREFIX = "chatcmpl-"


def first_events(index: int) -> list[dict[str, Any]]:
    """A stream of a choice begins with the role."""
    delta = {"role": "assistant", "content": "", "refusal": None}
    return [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]


def choice(
    index: int, text: str, tokens: Sequence[Placed] | None, finish_reason: str | None
) -> dict[str, Any]:
    """A choice of a whole answer; `tokens` is None where no log-probabilities were asked for."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(tokens),
        "finish_reason": finish_reason,
    }


def part(
    index: int, text: str, tokens: Sequence[Placed] | None, finish_reason: str | None
) -> dict[str, Any]:
    """A piece of a streamed choice; the last one has no text and says how it ended."""
    return {
        "index": index,
        "delta": {"content": text} if finish_reason is None else {},
        "logprobs": _logprobs(tokens) if finish_reason is None else None,
        "finish_reason": finish_reason,
    }


def _logprobs(tokens: Sequence[Placed] | None) -> dict[str, Any] | None:
    if tokens is None:
        return None
    return {"content": [_token(placed) for placed in tokens], "refusal": None}


def _token(placed: Placed) -> dict[str, Any]:
    scored = placed.scored
    return {
        **_scored(scored.id, scored.logprob or 0.0),
        "top_logprobs": [_scored(token, logprob) for token, logprob in scored.top],
    }


def _scored(token: int, logprob: float) -> dict[str, Any]:
    return {"token": token_text(token), "logprob": logprob, "bytes": token_bytes(token)}
