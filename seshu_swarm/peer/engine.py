"""Computing what the parts wait for: one batch after another, all sessions together.

Single tokens of all sessions at the same blocks are one call; a long prompt goes in chunks between
them, so that nobody waits for somebody else's prompt. A short step runs in the event loop: handing it
to a thread and back would take longer than the step.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from seshu_swarm.exchange.payloads import BlockState, BlockStates, Hidden
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.peer.hosted import Hosted
from seshu_swarm.peer.served import Pace, ServedSpan
from seshu_swarm.sessions.messages import To
from seshu_swarm.streams.channel import refusal
from seshu_swarm.streams.protocol import Refusal

logger = logging.getLogger(__name__)

MAX_BATCH = 16
CHUNK_TOKENS = 256
# A batch that is expected to take less is computed without leaving the event loop.
INLINE_SECONDS = 0.001

Deliver = Callable[[Hosted, list[To[Hidden, BlockState]]], None]


class Engine:
    """`wake` says that a part has something to compute; results go out through `deliver`. Whatever
    else this peer computes takes its turn in `executor`."""

    def __init__(self, deliver: Deliver) -> None:
        self.pace = Pace()
        self.num_steps = self.num_tokens = 0
        self._deliver = deliver
        self._waiting: dict[Hosted, None] = {}
        self._task: asyncio.Task[None] | None = None
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="compute")

    def wake(self, hosted: Hosted) -> None:
        if hosted.part.is_ready and not hosted.failed.is_set():
            self._waiting[hosted] = None
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())

    def forget(self, hosted: Hosted) -> None:
        self._waiting.pop(hosted, None)

    async def _run(self) -> None:
        while self._waiting:
            batch, inputs = self._next_batch()
            if not batch:
                continue
            try:
                await self._compute(batch, inputs)
            except Exception:
                logger.exception("computing %d session(s)", len(batch))
                for hosted in batch:
                    hosted.fail(refusal(Refusal.INTERNAL, "computing failed"))
            for hosted in batch:
                self.wake(hosted)
            await asyncio.sleep(0)

    def _next_batch(self) -> tuple[list[Hosted], list[Hidden]]:
        """The part that has waited longest, and others with one token at the same blocks."""
        first = next(iter(self._waiting))
        batch: list[Hosted] = []
        inputs: list[Hidden] = []
        for hosted in [h for h in self._waiting if _place(h) == _place(first)]:
            if batch and (inputs[0].count > 1 or len(batch) == MAX_BATCH):
                break
            if batch and hosted.part.received - hosted.part.position > 1:
                continue
            del self._waiting[hosted]
            taken = hosted.part.take(CHUNK_TOKENS)
            if taken is not None:
                batch.append(hosted)
                inputs.append(taken)
        return batch, inputs

    async def _compute(self, batch: list[Hosted], inputs: list[Hidden]) -> None:
        served, tokens = batch[0].served, inputs[0].count
        states = [_state_of(hosted) for hosted in batch]
        started = time.perf_counter()
        if tokens == 1 and 0 < self.pace.seconds < INLINE_SECONDS:
            outputs, after = _forward(served, inputs, states)
        else:
            loop = asyncio.get_running_loop()
            working = loop.run_in_executor(self.executor, _forward, served, inputs, states)
            outputs, after = await working
        seconds = time.perf_counter() - started
        if tokens == 1:
            self.pace.add(seconds)
        self.num_steps += len(batch)
        self.num_tokens += sum(given.count for given in inputs)
        for hosted, given, tensor, state in zip(batch, inputs, outputs, after, strict=True):
            hosted.used_at = time.monotonic()
            output = Hidden(tensor, given.seconds + seconds)
            self._deliver(hosted, hosted.part.done(BlockStates(state), output))

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.executor.shutdown(wait=False, cancel_futures=True)


def _place(hosted: Hosted) -> tuple[int, object]:
    return id(hosted.served), hosted.span


def _state_of(hosted: Hosted) -> RecurrentState:
    states = hosted.part.state
    return (
        states.state if isinstance(states, BlockStates) else hosted.served.fresh_state(hosted.span)
    )


def _forward(
    served: ServedSpan, inputs: list[Hidden], states: list[RecurrentState]
) -> tuple[list[torch.Tensor], list[RecurrentState]]:
    if len(inputs) == 1:
        output, after = served.compute(states[0], inputs[0].tensor)
        return [output], [after]
    hidden_BLM = torch.cat([hidden.tensor for hidden in inputs])
    output_BLM, together = served.compute(RecurrentState.gather(states), hidden_BLM)
    return list(output_BLM.split(1)), together.scatter()
