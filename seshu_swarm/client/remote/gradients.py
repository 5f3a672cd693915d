"""Forward and backward through frozen blocks of the swarm.

Stateless on the other side: the client keeps what went into every span, and sends it again with the
gradient of what came out. So any replica can answer either way; one that fails is replaced by
whoever hosts the blocks, in smaller spans too.

Shapes: B rows, L the longest row, M d_model.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seshu_swarm.client.chain.routing import Hop, Offer, choose_chain
from seshu_swarm.client.remote.tasks import together
from seshu_swarm.errors import PeerError, PeerLostError, UsageError
from seshu_swarm.exchange.gradients import (
    GRADIENTS,
    MAX_PASS_TOKENS,
    MAX_PASSES_OF_ONE,
    AskPass,
    PassAdmitted,
    Propagate,
    Propagated,
)
from seshu_swarm.network.dht import Swarm
from seshu_swarm.spans import Span
from seshu_swarm.streams import frames, wire

logger = logging.getLogger(__name__)

FindOffers = Callable[[], Awaitable[list[Offer]]]

ADMIT_SECONDS = 5.0
OFFERS_SECONDS = 10.0
AVOID_SECONDS = 30.0
RETRY_SECONDS = 0.5
MAX_FAILURES = 16
MAX_ROUNDS = 3
HEADER_BYTES = 65_536
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Rows:
    """Some rows of a batch in one pass; it is cut to the longest of them."""

    places: list[int]
    lengths: list[int]

    def of(self, batch_BLM: Tensor) -> Tensor:
        return batch_BLM[self.places, : max(self.lengths)]


# What went into every span, in order.
Way = list[tuple[Span, Tensor]]


@dataclass(frozen=True, eq=False)
class Trace:
    """What `backward` needs of a `forward`: the way of every group of rows."""

    ways: list[tuple[Rows, Way]]


@dataclass
class _Tries:
    """Failures within one pass, so that it ends."""

    failures: list[str] = field(default_factory=list)
    rounds: int = 0


class RemoteBlocks:
    """All blocks of one revision as a function of whole rows. For one event loop."""

    def __init__(
        self,
        swarm: Swarm,
        *,
        revision: str,
        num_blocks: int,
        find: FindOffers,
        call_seconds: float = 60.0,
    ) -> None:
        self._swarm, self._revision, self._find = swarm, revision, find
        self._whole, self._call_seconds = Span(0, num_blocks), call_seconds
        self._offers: list[Offer] = []
        self._looked_at = -math.inf
        self._avoided: dict[str, float] = {}
        self._slots = asyncio.Semaphore(MAX_PASSES_OF_ONE)
        self.recoveries: list[str] = []

    async def forward(self, hidden_BLM: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Trace]:
        """The residual stream after the last block, 0 after a row's end, and the way back.

        Of row b only the first lengths[b] >= 1 tokens count. Raises PeerError when nobody is left,
        UsageError for a row that is longer than peers take at once.
        """
        groups = grouped(lengths, hidden_BLM.shape[2])
        passed = await together(
            self._forward(self._whole, rows, rows.of(hidden_BLM), _Tries()) for rows in groups
        )
        output_BLM = torch.zeros_like(hidden_BLM)
        for rows, (output, _) in zip(groups, passed, strict=True):
            output_BLM[rows.places, : max(rows.lengths)] = output
        return output_BLM, Trace([(r, way) for r, (_, way) in zip(groups, passed, strict=True)])

    async def backward(self, trace: Trace, gradient_BLM: Tensor) -> Tensor:
        """Gradient by the input of `forward`, from that by its output. Raises PeerError."""
        found = await together(
            self._backward(way, rows, rows.of(gradient_BLM), _Tries()) for rows, way in trace.ways
        )
        result_BLM = torch.zeros_like(gradient_BLM)
        for (rows, _), gradient in zip(trace.ways, found, strict=True):
            result_BLM[rows.places, : max(rows.lengths)] = gradient
        return result_BLM

    async def _forward(
        self, span: Span, rows: Rows, hidden_BLM: Tensor, tries: _Tries
    ) -> tuple[Tensor, Way]:
        way: Way = []
        start = span.start
        while start < span.end:
            hop = (await self._hops(Span(start, span.end), tries))[0]
            try:
                output_BLM = await self._ask(hop, rows, hidden_BLM)
            except PeerError as error:
                self._give_up_on(hop, error, tries)
                continue
            way.append((hop.span, hidden_BLM))
            hidden_BLM, start = output_BLM, hop.span.end
        return hidden_BLM, way

    async def _backward(self, way: Way, rows: Rows, gradient: Tensor, tries: _Tries) -> Tensor:
        for span, hidden_BLM in reversed(way):
            gradient = await self._back(span, rows, hidden_BLM, gradient, tries)
        return gradient

    async def _back(
        self, span: Span, rows: Rows, hidden_BLM: Tensor, gradient: Tensor, tries: _Tries
    ) -> Tensor:
        """Through one span of the way; where nobody has all of it, through its parts."""
        while True:
            hops = await self._hops(span, tries)
            if len(hops) > 1:
                _, way = await self._forward(span, rows, hidden_BLM, tries)
                return await self._backward(way, rows, gradient, tries)
            try:
                return await self._ask(hops[0], rows, hidden_BLM, gradient)
            except PeerError as error:
                self._give_up_on(hops[0], error, tries)

    async def _ask(
        self, hop: Hop, rows: Rows, hidden_BLM: Tensor, gradient: Tensor | None = None
    ) -> Tensor:
        """One pass at one peer, within `call_seconds`. Raises PeerError."""
        asked = AskPass(
            revision=self._revision,
            start=hop.span.start,
            end=hop.span.end,
            lengths=rows.lengths,
            is_backward=gradient is not None,
        )
        given = Propagate(
            hidden=wire.pack_tensor(hidden_BLM),
            gradient=None if gradient is None else wire.pack_tensor(gradient),
        )
        async with self._slots:
            stream = await self._swarm.open(hop.peer_id, GRADIENTS)
            try:
                await stream.send(asked)
                await stream.receive(PassAdmitted, seconds=ADMIT_SECONDS, what="a pass")
                await frames.within(self._call_seconds, stream.send(given), f"{stream} to read")
                answer = await stream.receive(
                    Propagated, seconds=self._call_seconds, what=f"blocks {hop.span}"
                )
            finally:
                stream.close()
        return wire.unpack_tensor(answer.values, tuple(hidden_BLM.shape))

    async def _hops(self, span: Span, tries: _Tries) -> tuple[Hop, ...]:
        """Who could answer now; when all failed, after a pause everybody gets another chance."""
        while True:
            now = time.monotonic()
            if now - self._looked_at > OFFERS_SECONDS:
                self._offers, self._looked_at = await self._find(), now
            avoided = {peer for peer, until in self._avoided.items() if until > now}
            try:
                return choose_chain(self._offers, span, avoided)
            except PeerLostError as error:
                if tries.rounds == MAX_ROUNDS:
                    raise _nobody_left(error, tries) from None
                tries.rounds += 1
            await asyncio.sleep(RETRY_SECONDS * tries.rounds)
            self._avoided.clear()
            self._looked_at = -math.inf

    def _give_up_on(self, hop: Hop, error: PeerError, tries: _Tries) -> None:
        self._avoided[hop.peer_id] = time.monotonic() + AVOID_SECONDS
        tries.failures.append(str(error))
        self.recoveries.append(f"blocks {hop.span}: {error}")
        logger.info("passing over peer …%s: %s", hop.peer_id[-6:], error)
        if len(tries.failures) > MAX_FAILURES:
            raise PeerLostError(f"gave up after {MAX_FAILURES} failures", rule=str(error))


def grouped(lengths: Sequence[int], d_model: int) -> list[Rows]:
    """Rows of a batch in passes that peers take: the longest first. Raises UsageError.

    Rows of like length go together, because a pass counts every row as long as its longest.
    """
    fits = min(
        MAX_PASS_TOKENS, (frames.MAX_FRAME_BYTES - HEADER_BYTES) // (2 * FLOAT_BYTES * d_model)
    )
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    groups: list[Rows] = []
    for row in order:
        if not 1 <= lengths[row] <= fits:
            raise UsageError(
                f"row {row} has {lengths[row]} tokens",
                rule=f"without a session a row has 1 to {fits} tokens",
                way_out="cut it, or generate with a cache: sessions take any length",
            )
        if groups and (len(groups[-1].places) + 1) * max(groups[-1].lengths) <= fits:
            groups[-1].places.append(row)
            groups[-1].lengths.append(lengths[row])
        else:
            groups.append(Rows([row], [lengths[row]]))
    return groups


def _nobody_left(error: PeerLostError, tries: _Tries) -> PeerLostError:
    if not tries.failures:
        return error
    last = f"tried {len(tries.failures)} time(s), last: {tries.failures[-1]}"
    return PeerLostError(error.what, rule=last, way_out=error.way_out)
