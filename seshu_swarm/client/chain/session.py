"""One conversation over a chain of parts, on sockets; lost peers are replaced in constant time.

`Conversation` decides, `Carrier` carries; here is the waiting. Peers push to one another: the client
speaks to the first part and hears the last. A dead peer ends its control stream; a silent one does not
answer a ping when a step is overdue; one that leaves says so and hands its state over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from seshu_swarm.client.chain.carrier import Carrier
from seshu_swarm.client.chain.hub import Hub
from seshu_swarm.client.chain.mending import FindOffers, Mender
from seshu_swarm.client.chain.recovery import Recovery
from seshu_swarm.client.chain.revisions import FindNewest, Retirement
from seshu_swarm.client.chain.routing import Hop
from seshu_swarm.client.chain.suspicion import Suspicion
from seshu_swarm.client.chain.terms import Terms
from seshu_swarm.errors import (
    PeerError,
    PeerLostError,
    RevisionRetiredError,
    UsageError,
)
from seshu_swarm.exchange import edges
from seshu_swarm.exchange.payloads import BlockState, BlockStates, Hidden, together
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.network.dht import Swarm
from seshu_swarm.packages import write_whole
from seshu_swarm.sessions.conversation import Conversation
from seshu_swarm.sessions.log import MAX_PIECE_TOKENS, joined
from seshu_swarm.spans import Span

logger = logging.getLogger(__name__)

# Tokens that are under way at once: enough that no part of a chain waits for a long prompt's next piece.
WINDOW_TOKENS = 4 * MAX_PIECE_TOKENS


class RemoteSession:
    """`step(hidden)` advances the session by the tokens of `hidden` (1, tokens, d_model).

    It stays on its revision; `TokenSession` goes on with the next one when that has ended.
    """

    def __init__(
        self,
        swarm: Swarm,
        terms: Terms,
        *,
        find: FindOffers,
        find_newest: FindNewest | None = None,
        step_seconds: float = 10.0,
        resumed: RecurrentState | None = None,
        is_star: bool = False,
        hub: Hub | None = None,
    ) -> None:
        self._terms, self._is_star = terms, is_star
        self._conversation = Conversation[Hidden, BlockState](
            Span(0, terms.shape.num_blocks),
            snapshot_tokens=terms.snapshot_tokens,
            position=0 if resumed is None else resumed.position,
            blocks=None if resumed is None else BlockStates(resumed),
        )
        self._carrier = Carrier(swarm, terms, self._conversation, hub)
        retirement = Retirement(terms.revision, find_newest)
        self._mender = Mender(self._conversation, self._carrier, find, retirement)
        self._retired: RevisionRetiredError | None = None
        self._suspicion = Suspicion(self._conversation, self._carrier, self._mender, step_seconds)
        self._turn = asyncio.Lock()
        self._minding: asyncio.Task[None] | None = None
        self.compute_seconds: list[float] = []

    @property
    def recoveries(self) -> list[str]:
        """What was lost and replaced so far, a line each."""
        return [str(one) for one in self.replaced]

    @property
    def replaced(self) -> list[Recovery]:
        """What was lost so far, by whom it was replaced, and how long that took."""
        return self._mender.recoveries

    @property
    def chain(self) -> tuple[Hop, ...]:
        """Who has which blocks now, in order; empty before the first step."""
        return tuple(Hop(edges.split(leg.peer)[0], leg.span) for leg in self._conversation.legs)

    @property
    def peers(self) -> list[str]:
        """Peer ids of the present chain, in order."""
        return [edges.split(address)[0] for address in self._conversation.peers]

    @property
    def position(self) -> int:
        """Tokens that every block has absorbed."""
        return self._conversation.received

    @property
    def sent_bytes(self) -> int:
        """By this client, on the streams of the present chain."""
        return self._carrier.sent_bytes

    @property
    def snapshot_bytes(self) -> int:
        """Received by this client, for recoveries."""
        return self._carrier.snapshot_bytes

    async def step(self, hidden_BLM: Tensor) -> Tensor:
        """The residual stream after the last block. Raises PeerError when no chain is left and
        RevisionRetiredError when none will be, UsageError after a step that was broken off: nobody knows
        how much of it was absorbed."""
        async with self._turn:
            self._refuse_if_retired()
            try:
                return await self._step(hidden_BLM)
            except RevisionRetiredError as error:
                await self._retire(error)
                raise

    async def _step(self, hidden_BLM: Tensor) -> Tensor:
        if self._under_way or self._conversation.outputs:
            raise UsageError(
                "an earlier step was broken off",
                rule="a session goes on only from where a step has ended",
                way_out="begin a new session",
            )
        self._check(hidden_BLM)
        if not self._conversation.legs:
            await self._begin()
        started, before = time.monotonic(), len(self.replaced)
        for start in range(0, hidden_BLM.shape[1], MAX_PIECE_TOKENS):
            piece = Hidden(hidden_BLM[:, start : start + MAX_PIECE_TOKENS])
            await self._carrier.say(self._conversation.feed(piece))
            await self._until(lambda: self._under_way < WINDOW_TOKENS)
        await self._until(lambda: self._under_way == 0)
        if hidden_BLM.shape[1] == 1 and len(self.replaced) == before:
            self._suspicion.took(time.monotonic() - started)
        self._mender.keep_fresh()
        outputs, self._conversation.outputs = self._conversation.outputs, []
        self.compute_seconds = [sum(output.seconds for output in outputs)]
        return joined(outputs).tensor

    def _check(self, hidden_BLM: Tensor) -> None:
        """What a peer would refuse must not cost it its place in the chain. Raises UsageError."""
        shape, d_model = tuple(hidden_BLM.shape), self._terms.shape.d_model
        if len(shape) != 3 or shape[0] != 1 or shape[1] == 0 or shape[2] != d_model:
            raise UsageError(
                f"a step over hidden states {shape}",
                rule=f"(1, tokens, {d_model}) with at least one token",
            )
        if not np.isfinite(hidden_BLM.detach().float().numpy()).all():
            raise UsageError("a step over NaN or infinity", rule="hidden states are finite")

    async def save(self, path: Path) -> None:
        """Suspend: every block's state, in one file, for `RemoteModel.load_session` later and elsewhere.

        Raises UsageError before the first token, PeerError when a part cannot be asked or its revision
        has ended.
        """
        position = self.position
        if position == 0:
            raise UsageError("nothing to save", rule="a session has at least one token")
        async with self._turn:
            self._refuse_if_retired()
            await self._mender.ask_snapshots(self._conversation.peers)
        span = self._conversation.span
        found, blocks = self._conversation.newest(span)
        if blocks is None or found != position:
            raise PeerLostError("not every part gave its state", rule=f"all at {position} tokens")
        state = together(blocks, span, position)
        write_whole(path, state.to_bytes(revision=self._terms.revision))

    async def close(self) -> None:
        """End the session at every peer; failures do not matter any more."""
        if self._minding is not None:
            self._minding.cancel()
        await self._mender.close()
        await self._carrier.close()

    def _refuse_if_retired(self) -> None:
        if self._retired is not None:
            raise RevisionRetiredError(self._retired.revision, self._retired.newest)

    async def _retire(self, error: RevisionRetiredError) -> None:
        """The states are worth nothing any more, and peers may wait for their memory."""
        self._retired = error
        await self._carrier.close()

    @property
    def _under_way(self) -> int:
        return self._conversation.fed - self._conversation.received

    async def _begin(self) -> None:
        chain = await self._mender.places(self._conversation.span)
        carried = range(len(chain)) if self._is_star else ()
        # First: whoever is lost from here on is looked after, even if this step is broken off.
        self._minding = asyncio.create_task(self._mind())
        await self._carrier.say(self._conversation.begin(chain, carried))

    async def _mind(self) -> None:
        """Between steps too: a peer that leaves does not wait for the next word of the user."""
        while True:
            await self._carrier.troubled.wait()
            self._carrier.troubled.clear()
            async with self._turn:
                if self._retired is not None:
                    return
                since = time.monotonic()
                try:
                    await self._mender.mend()
                    self._mender.went_on(time.monotonic() - since)
                except RevisionRetiredError as error:
                    await self._retire(error)
                    return
                except PeerError as error:
                    logger.info("between two steps: %s", error)

    async def _until(self, is_done: Callable[[], bool]) -> None:
        """Wait for outputs, and look after whoever is lost meanwhile."""
        since = time.monotonic()
        await self._mender.mend()
        overdue, idle = 0, time.monotonic()
        while not is_done():
            received = self._conversation.received
            changed = await self._carrier.wait(self._suspicion.patience_seconds)
            await self._mender.mend()
            if self._conversation.received > received:
                overdue, idle = 0, time.monotonic()
                self._mender.went_on(idle - since)
                since = idle
            elif not changed:
                overdue += 1
                await self._suspicion.investigate(overdue, time.monotonic() - idle)
                await self._mender.mend()
