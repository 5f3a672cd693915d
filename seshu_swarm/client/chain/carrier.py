"""The control streams of one session: carries what the conversation says, hears what the parts say.

Knows which parts are gone, leave, or cannot reach the next one; decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import pairwise

from seshu_swarm.client.chain.hub import Hub
from seshu_swarm.client.chain.links import Heard, PartLink
from seshu_swarm.client.chain.news import News
from seshu_swarm.client.chain.terms import Terms
from seshu_swarm.errors import PackageError, PeerError, ProtocolError
from seshu_swarm.exchange import edges
from seshu_swarm.exchange.payloads import BlockState, BlockStates, Hidden, together
from seshu_swarm.exchange.session_messages import (
    EdgeAt,
    EdgeAttach,
    EdgePiece,
    Notice,
    OpenPart,
    Pong,
    ReroutePart,
    TrimPart,
)
from seshu_swarm.mamba.state import MAX_HEADER_BYTES, RecurrentState
from seshu_swarm.network.dht import Swarm
from seshu_swarm.sessions.conversation import Conversation
from seshu_swarm.sessions.messages import At, Attach, Open, Piece, Reroute, Snapshot, To, Trim
from seshu_swarm.streams.protocol import Message

logger = logging.getLogger(__name__)

Say = To[Hidden, BlockState]


class Carrier:
    """`say` what is to be said; `changed` is set whenever anything was heard, `troubled` when a part
    is lost, leaves or cannot reach the next one."""

    def __init__(
        self,
        swarm: Swarm,
        terms: Terms,
        conversation: Conversation[Hidden, BlockState],
        hub: Hub | None = None,
    ) -> None:
        self.news = News()
        self.changed, self.troubled = asyncio.Event(), asyncio.Event()
        self.snapshot_bytes = 0
        self._swarm, self._terms, self._conversation = swarm, terms, conversation
        self._hub = hub
        self._links: dict[str, PartLink] = {}
        self._opening: dict[str, list[Message]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        whole = RecurrentState.zeros(terms.shape, conversation.span)
        most_bytes = whole.num_bytes + MAX_HEADER_BYTES
        self._heard = Heard(self._on_message, self._on_snapshot, self._on_end, most_bytes)

    @property
    def sent_bytes(self) -> int:
        return sum(link.sent_bytes for link in self._links.values())

    async def say(self, saying: Sequence[Say]) -> None:
        """Send; parts to be opened are opened at once, and what is for them waits until they are."""
        opening = [to for to in saying if isinstance(to.message, Open)]
        self._opening |= {to.peer: [] for to in opening}
        self.tell([to for to in saying if not isinstance(to.message, Open)])
        if opening:
            await asyncio.gather(*(self._open(to.peer, to.message) for to in opening))  # type: ignore[arg-type]

    def tell(self, saying: Sequence[Say]) -> None:
        for to in saying:
            _, part_id = edges.split(to.peer)
            self.put(to.peer, _as_message(to, part_id, self._terms.wire_type))

    def put(self, address: str, message: Message) -> None:
        """To a part that is open or being opened; to others nothing is sent."""
        if link := self._links.get(address):
            self._send(link, message)
        elif address in self._opening:
            self._opening[address].append(message)

    def _send(self, link: PartLink, message: Message) -> None:
        """Pieces and greetings by the hub, where there is one; the rest by the control stream."""
        is_edge = isinstance(message, EdgePiece | EdgeAttach | EdgeAt)
        peer = edges.split(link.address)[0]
        if not (is_edge and self._hub is not None and self._hub.send(peer, message)):
            link.put(message)

    async def wait(self, seconds: float) -> bool:
        """Whether anything was heard in that time."""
        if not self.changed.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self.changed.wait()
            except TimeoutError:
                return False
        self.changed.clear()
        return True

    def drop(self, addresses: Sequence[str]) -> None:
        """Forget parts that were replaced."""
        for address in addresses:
            self._unhear(address)
            if link := self._links.pop(address, None):
                self._leave(link, is_alive=address in self.news.leaving)
            self.news.gone.pop(address, None)
            self.news.leaving.discard(address)
            self.news.cannot_reach_next.discard(address)

    def _leave(self, link: PartLink, *, is_alive: bool) -> None:
        """A part that handed its state over is told that the session goes on without it."""
        if not is_alive:
            link.drop()
            return
        task = asyncio.create_task(link.finish())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """End the session at every peer."""
        for address in self._links:
            self._unhear(address)
        links = list(self._links.values())
        self._links.clear()
        await asyncio.gather(*(link.finish() for link in links))

    def _unhear(self, address: str) -> None:
        if self._hub is not None:
            self._hub.leave(edges.split(address)[1])

    async def _open(self, address: str, opened: Open[BlockState]) -> None:
        state = b""
        if opened.state is not None:
            whole = together(opened.state, opened.span, opened.position)
            state = whole.to_bytes(revision=self._terms.revision)
        asked = OpenPart(
            part_id=edges.split(address)[1],
            epoch=opened.epoch,
            revision=self._terms.revision,
            start=opened.span.start,
            end=opened.span.end,
            before=opened.before,
            next=opened.next,
            position=opened.position,
            state_bytes=len(state),
            snapshot_tokens=opened.snapshot_tokens,
            wire_type=self._terms.wire_type,
            takes_pushes=self._hub is not None,
        )
        if self._hub is not None:
            self._hub.listen(asked.part_id, self._on_push)
        try:
            link = await PartLink.open(self._swarm, address, asked, state, self._heard)
        except BaseException as error:
            self._opening.pop(address, None)
            self._unhear(address)
            if not isinstance(error, PeerError):
                raise
            self._on_end(address, error)
            return
        self._links[address] = link
        for message in self._opening.pop(address, []):
            self._send(link, message)

    def _on_push(self, peer: str, letter: edges.Letter) -> None:
        """What a part pushed; only parts of the present chain are heard."""
        address = edges.address(peer, letter.sender)
        if address in self._conversation.peers:
            self._on_edge(address, letter.event)
            self.changed.set()

    def _on_message(self, address: str, message: Message) -> None:
        if isinstance(message, Pong):
            self.news.pongs[address] = (time.monotonic(), message)
        elif isinstance(message, Notice):
            self._on_notice(address, message.name)
            self.troubled.set()
        else:
            [letter] = edges.letters(message)
            self._on_edge(address, letter.event)
        self.changed.set()

    def _on_notice(self, address: str, name: str) -> None:
        peers = self._conversation.peers
        if address not in peers:
            return  # replaced a moment ago
        if name == "NEXT_UNREACHABLE":
            self.news.cannot_reach_next.add(address)
        elif name == "BEFORE_UNREACHABLE":
            before = [one for one, other in pairwise(peers) if other == address]
            self.news.cannot_reach_next.update(before)
        else:
            self.news.leaving.add(address)
            self.news.is_retiring |= name == "REVISION_RETIRED"

    def _on_edge(self, address: str, told: edges.EdgeEvent | ProtocolError) -> None:
        try:
            event = edges.checked(told, self._terms.shape.d_model)
        except ProtocolError as error:
            self._on_end(address, error)
            return
        if isinstance(event, Piece):
            self.tell(self._conversation.heard(address, event))
        elif isinstance(event, At):
            self.tell(self._conversation.told_where(address, event))

    def _on_snapshot(self, address: str, position: int, data: bytes) -> None:
        leg = next((leg for leg in self._conversation.legs if leg.peer == address), None)
        if leg is None:
            return
        terms = self._terms
        try:
            state = RecurrentState.from_bytes(
                data, shape=terms.shape, span=leg.span, revision=terms.revision
            )
            if state.positions != (position,):
                raise PackageError(f"a state after {state.positions}", rule=f"{position} tokens")
        except PackageError as error:
            self._on_end(address, ProtocolError(str(error)))
            return
        self.snapshot_bytes += len(data)
        self.news.snapshots[address] = position
        snapshot = Snapshot[BlockState](position, BlockStates(state))
        self.tell(self._conversation.saved(address, snapshot))
        self.changed.set()

    def _on_end(self, address: str, error: PeerError) -> None:
        if any(leg.peer == address for leg in self._conversation.legs):
            self.news.gone.setdefault(address, error)
            self.troubled.set()
        self.changed.set()


def _as_message(to: Say, part_id: bytes, wire_type: str) -> Message:
    match to.message:
        case Reroute(epoch=epoch, before=before, next=following):
            return ReroutePart(epoch=epoch, before=before, next=following)
        case Trim(position=position):
            return TrimPart(position=position)
        case Piece() | Attach() | At() as event:
            return edges.to_message(
                event, to=part_id, sender=edges.CLIENT_PART, wire_type=wire_type
            )
    raise AssertionError(f"a client never says {type(to.message).__name__} this way")
