"""One conversation over a chain of spans; a lost peer is replaced and caught up.

Each hop keeps what was sent into it, so that a replacement can be brought to the same position by
sending the same inputs again in one piece: continuing a scan from a state equals one scan. The
step that was under way when the peer was lost is then sent as if nothing had happened.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seshu_swarm import wire
from seshu_swarm.channel import Channel
from seshu_swarm.client.routing import Hop, Offer, choose_chain
from seshu_swarm.dht import Swarm
from seshu_swarm.errors import PeerError, PeerLostError, ProtocolError
from seshu_swarm.protocol import (
    MAX_STEP_TOKENS,
    SESSIONS,
    OpenSession,
    SessionOpened,
    Step,
    StepReply,
)
from seshu_swarm.spans import Span

logger = logging.getLogger(__name__)

OPEN_SECONDS = 10.0
MAX_RECOVERIES = 8
RESUME_SECONDS = 2.0
MAX_RESUMED = 2

FindOffers = Callable[[], Awaitable[list[Offer]]]


@dataclass
class Leg:
    """A hop with its open stream and the inputs sent into it so far.

    `num_resumed` counts broken streams to this peer since its last answer.
    """

    hop: Hop
    stream: Channel
    epoch: int
    num_resumed: int = 0
    inputs: list[Tensor] = field(default_factory=list)
    position: int = 0


class RemoteSession:
    """`step(hidden)` advances the session by the tokens of `hidden` (1, tokens, d_model)."""

    def __init__(
        self, swarm: Swarm, *, revision: str, num_blocks: int, find: FindOffers, step_seconds: float
    ) -> None:
        self._swarm, self._revision, self._find = swarm, revision, find
        self._step_seconds = step_seconds
        self._wanted = Span(0, num_blocks)
        self._session_id, self._epoch = secrets.token_hex(12), 0
        self._legs: list[Leg] = []
        self._lost: set[str] = set()
        self.recoveries: list[str] = []

    @property
    def peers(self) -> list[str]:
        """Peer ids of the present chain, in order."""
        return [leg.hop.peer_id for leg in self._legs]

    async def step(self, hidden_BLM: Tensor) -> Tensor:
        """The residual stream after the last block. Raises PeerError when no chain is left."""
        for chunk in hidden_BLM.split(MAX_STEP_TOKENS, dim=1):
            output = await self._step(chunk)
        return output

    async def _step(self, hidden_BLM: Tensor) -> Tensor:
        if not self._legs:
            self._legs = await self._open_chain(self._wanted)
        index = 0
        while index < len(self._legs):
            try:
                output = await self._send(self._legs[index], hidden_BLM)
            except PeerError as error:
                if not (isinstance(error, PeerLostError) and await self._resume(self._legs[index])):
                    await self._replace(index, error)
                continue
            self._legs[index].inputs.append(hidden_BLM)
            hidden_BLM, index = output, index + 1
        return hidden_BLM

    async def _send(self, leg: Leg, hidden_BLM: Tensor) -> Tensor:
        await leg.stream.send(Step(position=leg.position, hidden=wire.pack_tensor(hidden_BLM)))
        reply = await leg.stream.receive(StepReply, seconds=self._step_seconds, what="a step")
        if reply.position != leg.position + hidden_BLM.shape[1]:
            raise ProtocolError(f"{leg.stream} is at {reply.position}", rule="exactly-once steps")
        leg.position, leg.num_resumed = reply.position, 0
        return wire.unpack_tensor(reply.hidden, tuple(hidden_BLM.shape))

    async def _resume(self, leg: Leg) -> bool:
        """Whether the peer still has the session: a broken stream is not yet a lost peer.

        It is at our position, or one step further, if only the answer was lost: then the step that
        is sent again gets the remembered answer.
        """
        leg.stream.close()
        if leg.num_resumed == MAX_RESUMED:
            return False
        leg.num_resumed += 1
        try:
            stream, position = await self._dial(leg.hop, leg.epoch, seconds=RESUME_SECONDS)
        except PeerError:
            return False
        leg.stream = stream
        return position >= leg.position

    async def _replace(self, index: int, error: PeerError) -> None:
        """Put other peers in the place of a lost one and bring them to its position."""
        lost = self._legs[index]
        self._give_up_on(lost, error)
        inputs = torch.cat(lost.inputs, dim=1) if lost.inputs else None
        while True:
            legs = await self._open_chain(lost.hop.span)
            failed = await self._catch_up(legs, inputs)
            if failed is None:
                self._legs[index : index + 1] = legs
                return
            self._give_up_on(*failed)

    def _give_up_on(self, leg: Leg, error: PeerError) -> None:
        leg.stream.close()
        self._lost.add(leg.hop.peer_id)
        self._epoch += 1
        self.recoveries.append(f"blocks {leg.hop.span} lost at token {leg.position}: {error}")
        logger.info("replacing peer …%s: %s", leg.hop.peer_id[-6:], error)
        if len(self.recoveries) > MAX_RECOVERIES:
            raise PeerLostError(f"gave up after {MAX_RECOVERIES} replacements", rule=str(error))

    async def _catch_up(
        self, legs: list[Leg], hidden_BLM: Tensor | None
    ) -> tuple[Leg, PeerError] | None:
        """Send the inputs again through fresh legs; the leg that failed, if one did."""
        if hidden_BLM is None:
            return None
        for leg in legs:
            outputs = []
            try:
                for chunk in hidden_BLM.split(MAX_STEP_TOKENS, dim=1):
                    outputs.append(await self._send(leg, chunk))
                    leg.inputs.append(chunk)
            except PeerError as error:
                return leg, error
            hidden_BLM = torch.cat(outputs, dim=1)
        return None

    async def _open_chain(self, wanted: Span) -> list[Leg]:
        """Open a chain over `wanted`, passing over peers that cannot be reached."""
        while True:
            hops = choose_chain(await self._find(), wanted, self._lost)
            legs: list[Leg] = []
            try:
                for hop in hops:
                    legs.append(await self._open(hop))
                return legs
            except PeerError as error:
                logger.info("passing over peer …%s: %s", hop.peer_id[-6:], error)
                self._lost.add(hop.peer_id)
                for leg in legs:
                    leg.stream.close()
                self._epoch += 1

    async def _open(self, hop: Hop) -> Leg:
        stream, position = await self._dial(hop, self._epoch, seconds=OPEN_SECONDS)
        if position != 0:
            stream.close()
            raise ProtocolError(f"{stream} opened at {position}", rule="a new session is at 0")
        return Leg(hop, stream, self._epoch)

    async def _dial(self, hop: Hop, epoch: int, *, seconds: float) -> tuple[Channel, int]:
        """A stream for the session's part at this peer, and the position it has there."""
        stream = await self._swarm.open(hop.peer_id, SESSIONS, seconds=seconds)
        try:
            await stream.send(
                OpenSession(
                    session_id=self._id_at(hop.span),
                    epoch=epoch,
                    revision=self._revision,
                    start=hop.span.start,
                    end=hop.span.end,
                )
            )
            opened = await stream.receive(SessionOpened, seconds=seconds, what="a session")
        except PeerError:
            stream.close()
            raise
        return stream, opened.position

    def _id_at(self, span: Span) -> str:
        # A peer may serve two parts of one chain: each part is a session of its own there.
        return f"{self._session_id}{span.start:04x}{span.end:04x}"

    async def close(self) -> None:
        """End the session at every peer; failures do not matter any more."""
        for leg in self._legs:
            try:
                await leg.stream.finish()
            except PeerError:
                logger.debug("%s was gone before the end", leg.stream)
            leg.stream.close()
        self._legs = []
