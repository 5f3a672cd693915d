"""Scored tokens of one choice, out of a session: the prompt's if they are wanted, then new ones.

Knows the ends of the model and the session's `step`; knows neither text nor HTTP.
Shapes: L length, M d_model, V vocab_size; the batch is 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seshu_swarm.client.gateway.choosing import chooser
from seshu_swarm.client.gateway.wanted import Wanted
from seshu_swarm.client.remote.token_session import TokenSession
from seshu_swarm.data.tokeniser import ByteTokeniser

PREFILL_TOKENS = 1_024  # a step of the prompt: between two, a request can be cancelled


@dataclass(frozen=True)
class Scored:
    """A token, its log-probability and the likeliest alternatives (None, empty: not scored)."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Generation:
    """One choice over one session. `prompt()` first, whether or not it gives tokens, then `new()`."""

    def __init__(self, session: TokenSession, wanted: Wanted) -> None:
        self._session, self._wanted = session, wanted
        self._logits_V: Tensor | None = None
        self.is_ended = False  # whether the model itself ended the text

    @property
    def peers(self) -> list[str]:
        """Peer ids of the chain that carries it now."""
        return self._session.peers

    async def prompt(self) -> AsyncIterator[list[Scored]]:
        """Absorb the prompt; its tokens in order, a step's at a time, if they are echoed."""
        wanted, ids = self._wanted, self._wanted.prompt_ids
        if wanted.echo:
            yield [Scored(ids[0])]
        # Without new tokens nobody asks what follows the last one; without scores, nor any other.
        num_steps = len(ids) if wanted.max_new_tokens else len(ids) - 1
        if wanted.max_new_tokens or wanted.scores_prompt:
            for start in range(0, num_steps, PREFILL_TOKENS):
                end = min(start + PREFILL_TOKENS, num_steps)
                scored = await self._absorb(ids[start:end], ids[start + 1 : end + 1])
                if wanted.echo:
                    yield scored
        elif wanted.echo:
            yield [Scored(i) for i in ids[1:]]

    async def _absorb(self, ids: Sequence[int], next_ids: Sequence[int]) -> list[Scored]:
        """Step over `ids`; `next_ids` as the logits score them."""
        hidden_1LM = await self._session.step(ids)
        if self._wanted.scores_prompt:
            # A long matrix product: others' tokens must not wait for it.
            return await asyncio.to_thread(self._score, hidden_1LM, next_ids)
        self._logits_V = await self._session.model.next_logits(hidden_1LM)
        return [Scored(i) for i in next_ids]

    def _score(self, hidden_1LM: Tensor, next_ids: Sequence[int]) -> list[Scored]:
        logits_LV = self._logits(hidden_1LM)
        self._logits_V = logits_LV[-1]
        return score(logits_LV[: len(next_ids)], next_ids, self._wanted.num_top or 0)

    async def new(self) -> AsyncIterator[Scored]:
        """New tokens one by one, at most `max_new_tokens`; the end token is not among them."""
        wanted, choose = self._wanted, chooser(self._wanted)
        last: int | None = None
        for _ in range(wanted.max_new_tokens):
            if last is not None:
                await self._absorb_new(last)
            assert self._logits_V is not None  # `prompt` has run: max_new_tokens is not 0
            last = token = choose(self._logits_V)
            if token == ByteTokeniser.eos_id and not wanted.ignore_end:
                self.is_ended = True
                return
            if wanted.num_top is None:
                yield Scored(token)
            else:
                yield score(self._logits_V[None], [token], wanted.num_top)[0]

    async def _absorb_new(self, token: int) -> None:
        hidden_1LM = await self._session.step([token])
        self._logits_V = await self._session.model.next_logits(hidden_1LM)

    def _logits(self, hidden_1LM: Tensor) -> Tensor:
        """Logits (length, vocab_size), by the revision that the last step was computed by."""
        return self._session.model.logits(hidden_1LM)[0]


def score(logits_LV: Tensor, ids: Sequence[int], num_top: int) -> list[Scored]:
    """Each id under its row's logits at temperature 1; the chosen one is among the alternatives."""
    if not ids:
        return []
    logprobs_LV = torch.log_softmax(logits_LV.double(), dim=-1)
    chosen_L = logprobs_LV.gather(1, torch.tensor(list(ids))[:, None])[:, 0].tolist()
    top = logprobs_LV.topk(num_top, dim=-1)
    scored = []
    for i, logprob, tops, values in zip(
        ids, chosen_L, top.indices.tolist(), top.values.tolist(), strict=True
    ):
        likeliest = tuple(zip(tops, values, strict=True))
        others = likeliest if i in tops else (*likeliest, (i, logprob))
        scored.append(Scored(i, logprob, others))
    return scored
