"""Logits of what comes back from the swarm: one matrix product for all sessions of a turn.

Sessions whose tokens travelled together come back together. What a session gets does not depend on
who shares its product.

Shapes: L tokens of a step, M d_model, V vocab_size, N sessions.
"""

from __future__ import annotations

import asyncio

import torch
from torch import Tensor

from seshu_swarm.mamba.decoding import MAX_BATCH
from seshu_swarm.mamba.ends import Ends

Asked = tuple[Tensor, asyncio.Future[Tensor]]


class Readout:
    """`await next_logits(hidden)`. For one event loop at a time."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._asked: list[Asked] = []

    async def next_logits(self, hidden_1LM: Tensor) -> Tensor:
        """Logits (V) after the last token of a step."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Tensor] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._answer)
        self._asked.append((hidden_1LM[:, -1:], answer))
        return await answer

    def _answer(self) -> None:
        asked, self._asked = self._asked, []
        # Larger batches are multiplied another way, and its sums depend on the batch.
        for start in range(0, len(asked), MAX_BATCH):
            self._multiply(asked[start : start + MAX_BATCH])

    def _multiply(self, asked: list[Asked]) -> None:
        try:
            with torch.inference_mode():
                hidden_N1M = torch.cat([hidden for hidden, _ in asked])
                logits_NV = self._ends.logits(hidden_N1M)[:, 0]
        except Exception as error:
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), logits_V in zip(asked, logits_NV, strict=True):
            if not answer.done():
                answer.set_result(logits_V)
