"""The stream GRADIENTS: whole rows through the hosted blocks, forward or backward, no session.

Blocks are frozen: only the gradient by the input is computed, and nothing of a pass outlives its
answer. Every block is a piece of work of its own in the compute thread, so that steps of sessions
come in between, and a client that goes away stops it at the next block. Backward keeps the inputs of
the blocks and computes each block again, so its memory does not grow with the blocks' inner width.

Shapes: B rows, L the longest row, M d_model.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from seshu_swarm.errors import PeerLostError, ProtocolError
from seshu_swarm.exchange.gradients import (
    MAX_PASS_TOKENS,
    MAX_PASSES_OF_ONE,
    AskPass,
    PassAdmitted,
    Propagate,
    Propagated,
)
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.served import ServedSpan, Stopwatch
from seshu_swarm.spans import Span
from seshu_swarm.streams import wire
from seshu_swarm.streams.channel import IDLE_SECONDS, Channel, refusal
from seshu_swarm.streams.protocol import Refusal

ASK_SECONDS = 10.0
# The largest pass is 32 MB: at 10 Mbit/s.
GIVE_SECONDS = 30.0
MAX_PASSES = 8
FLOAT_BYTES = 4

T = TypeVar("T")


class GradientService:
    """`served(revision)` is what this peer hosts of it; `computing` runs one block at a time."""

    def __init__(
        self, served: Callable[[str], ServedSpan | None], guest: Guest, computing: Executor
    ) -> None:
        self._served, self._guest, self._computing = served, guest, computing
        self._passes: Counter[str] = Counter()
        self._reserved_bytes = 0
        self.num_answered = 0

    async def serve(self, channel: Channel) -> None:
        asked = await channel.receive(AskPass, seconds=ASK_SECONDS, what="a pass")
        served = self._find(asked)
        with self._admitted(channel.peer_id, bytes_of_pass(served.module.shape, asked)):
            await channel.send(PassAdmitted())
            given = await channel.receive(Propagate, seconds=GIVE_SECONDS, what="the tensors")
            await channel.send(await unless_gone(channel, self._answer(served, asked, given)))
        self.num_answered += 1

    def _find(self, asked: AskPass) -> ServedSpan:
        if reason := self._guest.pause_reason():
            raise refusal(Refusal.PAUSED, reason)
        served = self._served(asked.revision)
        if served is None:
            raise refusal(Refusal.REVISION_MISMATCH, "not among the revisions I announced")
        if not served.span.start <= asked.start < asked.end <= served.span.end:
            raise refusal(Refusal.SPAN_MOVED, f"hosting {served.span}")
        rows, length = asked.shape
        if rows * length > MAX_PASS_TOKENS:
            raise refusal(
                Refusal.TOO_LARGE, f"{rows} x {length} tokens, at most {MAX_PASS_TOKENS} together"
            )
        return served

    @contextmanager
    def _admitted(self, client: str, num_bytes: int) -> Iterator[None]:
        """A place and memory for one pass, kept until it ends."""
        if self._passes[client] >= MAX_PASSES_OF_ONE or self._passes.total() >= MAX_PASSES:
            rule = f"{MAX_PASSES_OF_ONE} passes of one client, {MAX_PASSES} of all"
            raise refusal(Refusal.RATE_LIMITED, rule)
        if self._reserved_bytes + num_bytes > self._guest.free_bytes():
            raise refusal(Refusal.MEMORY_FULL, f"this pass needs {num_bytes} bytes")
        self._passes[client] += 1
        self._reserved_bytes += num_bytes
        try:
            yield
        finally:
            self._reserved_bytes -= num_bytes
            self._passes[client] -= 1
            self._passes += Counter()  # forgets who has none

    async def _answer(self, served: ServedSpan, asked: AskPass, given: Propagate) -> Propagated:
        shape = (*asked.shape, served.module.shape.d_model)
        if asked.is_backward != (given.gradient is not None):
            raise ProtocolError("a gradient is given iff the pass was asked for as backward")
        hidden_BLM = wire.unpack_tensor(given.hidden, shape)
        gradient_BLM = None if given.gradient is None else wire.unpack_tensor(given.gradient, shape)
        if not self._guest.allow_upload(hidden_BLM.nbytes):
            raise refusal(Refusal.UPLOAD_LIMIT, str(self._guest.limits))
        watch = Stopwatch()
        blocks = served.module.part(Span(asked.start, asked.end)).blocks
        values_BLM = await self._through(blocks, asked.lengths, hidden_BLM, gradient_BLM)
        if not bool(torch.isfinite(values_BLM).all()):
            raise ProtocolError("these numbers overflow in the blocks", rule="the result is finite")
        return Propagated(values=wire.pack_tensor(values_BLM), compute_seconds=watch.seconds)

    async def _through(
        self,
        blocks: nn.ModuleList,
        lengths: list[int],
        hidden_BLM: Tensor,
        gradient_BLM: Tensor | None,
    ) -> Tensor:
        """Forward through all blocks, or backward with the inputs that a forward pass left."""
        lengths_B = torch.tensor(lengths)
        counts_BL1 = (torch.arange(max(lengths)) < lengths_B[:, None])[..., None]
        equal = lengths_B if len(set(lengths)) > 1 else None
        loop, forward = asyncio.get_running_loop(), list(blocks)
        inputs: list[Tensor] = []
        for block in forward if gradient_BLM is None else forward[:-1]:
            if gradient_BLM is not None:
                inputs.append(hidden_BLM)
            hidden_BLM = await loop.run_in_executor(
                self._computing, _forward, block, hidden_BLM, equal
            )
        if gradient_BLM is None:
            return hidden_BLM.masked_fill(~counts_BL1, 0.0)
        # A gradient given at the padding would be that of numbers which mean nothing.
        gradient_BLM = gradient_BLM.masked_fill(~counts_BL1, 0.0)
        inputs.append(hidden_BLM)
        for block in reversed(forward):
            gradient_BLM = await loop.run_in_executor(
                self._computing, _backward, block, inputs.pop(), gradient_BLM, equal
            )
        return gradient_BLM.masked_fill(~counts_BL1, 0.0)


def bytes_of_pass(shape: MambaShape, asked: AskPass) -> int:
    """Most memory of a pass: the inputs of the blocks, if it is backward, and the work on one block.

    One block's passes hold at most 16.3 vectors of d_inner for each token, measured with the plain
    kernels (native: 11) at d_model 256 and 768; what comes and goes is copied a few times.
    """
    rows, length = asked.shape
    num_kept = asked.end - asked.start if asked.is_backward else 1
    return FLOAT_BYTES * rows * length * ((num_kept + 6) * shape.d_model + 16 * shape.d_inner)


def _forward(block: nn.Module, hidden_BLM: Tensor, lengths_B: Tensor | None) -> Tensor:
    # Not inference mode: what is kept here is used with autograd in a backward pass.
    with torch.no_grad():
        output_BLM: Tensor = block(hidden_BLM, lengths_B=lengths_B)[0]
    return output_BLM


def _backward(
    block: nn.Module, hidden_BLM: Tensor, gradient_BLM: Tensor, lengths_B: Tensor | None
) -> Tensor:
    """Gradient by the block's input, from that by its output; the block is computed again."""
    with torch.enable_grad():
        before_BLM = hidden_BLM.detach().requires_grad_()
        after_BLM = block(before_BLM, lengths_B=lengths_B)[0]
    return torch.autograd.grad(after_BLM, before_BLM, gradient_BLM)[0]


async def unless_gone(channel: Channel, work: Awaitable[T]) -> T:
    """The result of `work`, which ends when the client closes the stream before it has it."""
    working = asyncio.ensure_future(work)
    leaving: asyncio.Future[Any] = asyncio.ensure_future(
        channel.receive_or_end(Propagate, seconds=IDLE_SECONDS, what="the end")
    )
    try:
        done, _ = await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working in done:
            return working.result()
        leaving.result()  # raises PeerLostError for a stream that was cut
        raise PeerLostError(f"{channel} wants no answer any more")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
